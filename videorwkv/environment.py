"""What `videorwkv env` and `videorwkv models` show: versions, hardware, presets and their cost."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def environment() -> dict[str, str]:
    """Versions and hardware, for a bug report."""
    import av
    import cv2
    import numpy as np
    import torch

    import videorwkv
    from videorwkv.models import list_models
    from videorwkv.ops.wkv import choose_backend

    device = "cuda" if torch.cuda.is_available() else "cpu"
    scans = []
    for kind in dict.fromkeys(("cpu", device)):
        backend, reason = choose_backend(kind)
        scans.append(f"{kind}: {backend} ({reason})")
    libraries = ", ".join(
        f"{name} {'.'.join(map(str, version))}"
        for name, version in sorted(av.library_versions.items())
        if name in ("libavcodec", "libavformat")
    )
    values = {
        "videorwkv": videorwkv.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "av": f"{av.__version__} (FFmpeg: {libraries})",
    }
    for name in ("safetensors", "rich", "tensorboard", "matplotlib"):
        values[name] = metadata.version(name)
    values |= {
        "cpu": f"{_processor()}, {os.cpu_count()} threads, PyTorch uses {torch.get_num_threads()}",
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "none that PyTorch can use",
        "scan": "; ".join(scans),
        "models": f"{', '.join(list_models())} (their cost: videorwkv models)",
    }
    return values


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def describe_models(pattern: str = "*", *, num_classes: int | None = None) -> list[dict[str, Any]]:
    """Name, size and cost of every preset that matches a glob.

    Args:
        pattern: which presets.
        num_classes: classes of the head; None takes each preset's own.

    Raises:
        UsageError: none matches.
    """
    from videorwkv.complexity import cost
    from videorwkv.errors import UsageError, did_you_mean
    from videorwkv.models import list_models, model_config

    names = list_models(pattern)
    if not names:
        raise UsageError(f"No model matches {pattern!r}. {did_you_mean(pattern, list_models())}")
    rows = []
    for name in names:
        config = model_config(name)
        if num_classes is not None:
            config = replace(config, num_classes=num_classes)
        spent = cost(config)
        rows.append(
            {
                "name": name,
                "image_size": config.image_size,
                "frames": spent.num_frames,
                "width": config.width,
                "depth": config.depth,
                "classes": config.num_classes,
                "parameters": spent.parameters,
                "macs_per_frame": spent.macs_per_frame,
                "macs_per_clip": spent.macs_per_clip,
                "flops_per_clip": spent.flops_per_clip,
            }
        )
    return rows


def models_table(rows: list[dict[str, Any]]) -> Table:
    """`describe_models` for the terminal."""
    from rich.table import Table

    table = Table(
        caption="MACs: multiply-accumulates, what papers call FLOPs. FLOPs: two a MAC, what "
        "torch.utils.flop_counter counts.",
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True)
    for name in ("frames", "px", "classes", "M\nparams", "GMACs\na frame", "GMACs\na clip",
                 "GFLOPs\na clip"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            str(row["frames"]),
            str(row["image_size"]),
            str(row["classes"]),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['macs_per_frame'] / 1e9:.3f}",
            f"{row['macs_per_clip'] / 1e9:.2f}",
            f"{row['flops_per_clip'] / 1e9:.2f}",
        )
    return table
