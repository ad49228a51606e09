"""Keys and values as they are, for the ways that prepare nothing.

B batch, L tokens, H heads, D head width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """What `read` needs beside the receptance; B may stand for frames times clips.

    Args:
        key_BLHD: keys.
        value_BLHD: values.
        log_decay_HD: as in `wkv`.
        bonus_HD: as in `wkv`.
        scan: `bidirectional` or `forward`.
        backend: `native` or `reference`.
    """

    key_BLHD: Tensor
    value_BLHD: Tensor
    log_decay_HD: Tensor
    bonus_HD: Tensor
    scan: str
    backend: str

    def frames(self, num_frames: int) -> list[Tokens]:
        """Split a batch of `num_frames` * B scans into one part a frame, frame-major."""
        if num_frames == 1:
            return [self]
        keys = self.key_BLHD.unflatten(0, (num_frames, -1)).unbind(0)
        values = self.value_BLHD.unflatten(0, (num_frames, -1)).unbind(0)
        return [
            self._replace(key_BLHD=key, value_BLHD=value)
            for key, value in zip(keys, values, strict=True)
        ]
