"""The smallest study that still trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from studies.data import DataOptions
from studies.plan import Settings

DATA = "motion:train=16,validation=0,test=8,size=32,frames=6"
CHANGES = (
    *("model.image_size=32", "model.patch_size=8", "model.width=16", "model.head_width=8"),
    *("model.depth=1", "sampling.num_frames=3", "steps=2", "eval_every=1", "batch_size=4"),
    "workers=0",
)
FILE = """
from studies import Study, Variant

STUDY = Study(
    "small",
    question="Does it run?",
    variants=(
        Variant("default"),
        Variant("no edges", changes=("model.edges=none", "model.key_value_source=frame")),
    ),
)
"""


def settings(folder: Path, **changes: Any) -> Settings:
    base = Settings(
        data=DataOptions(spec=DATA),
        changes=CHANGES,
        seeds=2,
        runs=folder / "runs",
        device="cpu",
    )
    return replace(base, **changes)


def study_file(folder: Path, text: str = FILE, name: str = "small.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)
