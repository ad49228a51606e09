"""The named parameters of edge extraction; they stand in a model's configuration and checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from videorwkv.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EdgeOptions:
    """How edge maps are made. Another choice gives another map: OpenCV's L1 and L2 gradient norms
    agree on 3 of 4 edge pixels only, so a checkpoint carries these values.

    Args:
        high: Canny's high threshold, in the unit of `min_high`, the same for all frames; 0 takes
            Otsu's for each frame.
        blur_size: side of the Gaussian kernel in pixels, odd; 1 is no blur.
        blur_sigma: its standard deviation in pixels; 0 derives it from `blur_size` as OpenCV does.
        norm: norm of the gradient, `l1` (|dx| + |dy|) or `l2`.
        low_high_ratio: Canny's low threshold as a share of its high one, in (0, 1].
        min_high: floor of Canny's high threshold, in the gradient's unit: 3x3 Sobel in `norm`, so a
            sharp step of one grey level counts 4. Otsu always splits, even pure sensor noise; below
            this floor a gradient is noise, so near-black and flat frames give an empty map.
    """

    high: float = 0.0
    blur_size: int = 5
    blur_sigma: float = 0.0
    norm: Literal["l1", "l2"] = "l2"
    low_high_ratio: float = 0.5
    min_high: float = 12.0

    def __post_init__(self) -> None:
        if self.blur_size < 1 or self.blur_size % 2 == 0:
            raise ConfigError(
                f"EdgeOptions: blur_size ({self.blur_size}) must be odd and at least 1; 5 is usual."
            )
        if self.blur_sigma < 0:
            raise ConfigError(f"EdgeOptions: blur_sigma ({self.blur_sigma}) must be 0 or more.")
        if self.norm not in ("l1", "l2"):
            raise ConfigError(f"EdgeOptions: norm ({self.norm!r}) must be 'l1' or 'l2'.")
        if not 0 < self.low_high_ratio <= 1:
            raise ConfigError(
                f"EdgeOptions: low_high_ratio ({self.low_high_ratio}) must lie in (0, 1]."
            )
        if self.high < 0:
            raise ConfigError(f"EdgeOptions: high ({self.high}) must be 0 or more.")
        if self.min_high < 0:
            raise ConfigError(f"EdgeOptions: min_high ({self.min_high}) must be 0 or more.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
