"""Transforms of torchvision's v2 by name, where torchvision is installed: one draw for all frames.

T frames, H height, W width, C = 3 (RGB), uint8.
"""

from __future__ import annotations

import ast
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.errors import ConfigError, did_you_mean

# What they do to the label, the transform can't tell.
_REFUSED = {
    "RandomHorizontalFlip": "flips change labels that have a side: augmentation.flip_probability",
    "RandomVerticalFlip": "it changes what up, down and clockwise mean, and the label would stay",
    "MixUp": "it mixes clips of a batch: mixup",
    "CutMix": "it mixes clips of a batch: cutmix",
}


class Call(NamedTuple):
    """The name of a transform, and its arguments."""

    name: str
    arguments: dict[str, Any]


def parse_calls(text: str) -> tuple[Call, ...]:
    """`GaussianBlur(kernel_size=5); JPEG(quality=(50, 90))` -> calls, in order.

    Raises:
        ConfigError: it is not of that form, or a transform that must not be used so.
    """
    calls = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        try:
            tree = ast.parse(part, mode="eval").body
            if isinstance(tree, ast.Name):
                tree = ast.Call(tree, [], [])
            if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)) or tree.args:
                raise ValueError("it is no name with arguments by name")
            arguments = {word.arg: ast.literal_eval(word.value) for word in tree.keywords}
            if None in arguments:
                raise ValueError("** is not read")
        except (SyntaxError, ValueError) as error:
            raise ConfigError(
                f"Augmentation: torchvision {part!r} is not understood ({error}). Wanted: a name "
                "and its arguments by name, such as GaussianBlur(kernel_size=5); several with ; "
                "between them."
            ) from error
        name = tree.func.id
        if name in _REFUSED:
            raise ConfigError(f"Augmentation: torchvision {name}: {_REFUSED[name]}.")
        calls.append(Call(name, arguments))  # type: ignore[arg-type]
    return tuple(calls)


@functools.lru_cache
def make_transforms(text: str) -> tuple[Any, ...]:
    """The transforms themselves.

    Raises:
        ConfigError: torchvision can't be imported, or has no such transform.
    """
    calls = parse_calls(text)
    try:
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:  # a build for another PyTorch is a RuntimeError
        raise ConfigError(
            f"augmentation.torchvision={text!r} needs torchvision, which can't be imported here "
            f"({str(error).splitlines()[0]}). Install the version that belongs to PyTorch "
            f"{torch.__version__} (https://pytorch.org), or leave the option out; "
            "augmentation.rand_augment needs nothing."
        ) from error
    made = []
    for name, arguments in calls:
        kind = getattr(v2, name, None)
        if not (isinstance(kind, type) and issubclass(kind, v2.Transform)):
            known = [other for other in dir(v2) if other[:1].isupper()]
            raise ConfigError(
                f"augmentation.torchvision: no transform {name!r}. {did_you_mean(name, known)}"
            )
        try:
            made.append(kind(**arguments))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"augmentation.torchvision: {name}: {error}.") from error
    return tuple(made)


def apply_transforms(frames_THWC: NDArray[np.uint8], text: str, seed: int) -> NDArray[np.uint8]:
    """All frames after the transforms, which draw from a generator of this seed.

    Raises:
        ConfigError: a transform fails, or what comes out are no frames of the same size and type.
    """
    frames_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for transform in make_transforms(text):
            shape = frames_TCHW.shape
            try:
                frames_TCHW = transform(frames_TCHW)
            except (RuntimeError, TypeError, ValueError) as error:
                name = type(transform).__name__
                raise ConfigError(f"augmentation.torchvision: {name}: {error}.") from error
            if frames_TCHW.shape != shape or frames_TCHW.dtype != torch.uint8:
                raise ConfigError(
                    f"augmentation.torchvision: {type(transform).__name__} makes "
                    f"{list(frames_TCHW.shape)} {frames_TCHW.dtype} of {list(shape)} uint8; "
                    "wanted: transforms that keep both."
                )
    return np.ascontiguousarray(frames_TCHW.permute(0, 2, 3, 1).numpy())
