"""Versions and hardware: what a bug report and a run say of where they were made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path


def environment() -> dict[str, str]:
    """Versions and hardware, for a bug report."""
    import av
    import cv2
    import numpy as np
    import torch

    import videorwkv
    from videorwkv.models import list_models
    from videorwkv.ops.cell import named_backend
    from videorwkv.ops.wkv import choose_backend

    device = "cuda" if torch.cuda.is_available() else "cpu"
    scans, cells = [], []
    for kind in dict.fromkeys(("cpu", device)):
        backend, reason = choose_backend(kind)
        scans.append(f"{kind}: {backend} ({reason})")
        way = named_backend(kind, torch.float32) or "a loop over the frames, in plain PyTorch"
        cells.append(f"{kind}: {way}, where a clip goes through a layer at once")
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
        "cell": "; ".join(cells),
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


def _machine() -> str:
    import torch

    cpu = f"{_processor()}, {os.cpu_count()} threads"
    return f"{torch.cuda.get_device_name()}; {cpu}" if torch.cuda.is_available() else cpu


def versions() -> dict[str, str | None]:
    """What made a run: package, torch, Python, the machine, and the commit of a checkout."""
    import torch

    import videorwkv

    return {
        "videorwkv": videorwkv.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "machine": _machine(),
    }


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    # An installed package may lie inside somebody else's checkout: only our own counts.
    if not ((root / ".git").exists() and (root / "videorwkv").is_dir()):
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
