"""A run's folder: what was trained, on what, and the weights. Every file is written atomically.

config.json            recipe, labels, flips, data (see `Run`), seed, versions
best.safetensors       weights at the best validation; absent without a validation split
last.safetensors       weights at the last checkpoint
state.pt               what resuming needs: step, optimiser, raw weights; tensors and plain values
log.jsonl              one JSON object a line: steps and validations
tensorboard/           the same curves
"""

from __future__ import annotations

import io
import json
import pickle
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videorwkv.errors import CheckpointError, ConfigError, UsageError, did_you_mean
from videorwkv.files import write_atomic
from videorwkv.masks import NO_MASKS, Masks
from videorwkv.models import LCR, build_model
from videorwkv.models.weights import load_weights
from videorwkv.train.recipes import Recipe

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A trained run on disk.

    Args:
        folder: the run's folder.
        which: `best` or `last`, the weights that `model` loads.
        recipe: how it was trained.
        labels: class names, in the order of the logits.
        flips: label -> label of its mirror image, or None.
        data: name, digest, digest of the clips whatever their splits, and split sizes of what it
            was trained on.
        versions: package, torch, Python and, where known, the commit.
    """

    folder: Path
    which: str
    recipe: Recipe
    labels: tuple[str, ...]
    flips: Mapping[str, str] | None
    data: Mapping[str, Any]
    versions: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        return self.folder / f"{self.which}.safetensors"

    def results(
        self, split: str, *, views: tuple[int, int] | None = None, masks: Masks = NO_MASKS
    ) -> Path:
        """The folder where an evaluation of `split` goes; all that is unusual is in its name.

        Args:
            split: train, validation, test or all.
            views: temporal and spatial views; the run's own if None.
            masks: the patches that are left out.
        """
        name = f"evaluation-{split}"
        if self.which == "last" and (self.folder / "best.safetensors").is_file():
            name += "-last"
        if views not in (None, self.recipe.views):
            name += "-views-{}x{}".format(*views)
        if masks.tube_mask_ratio:
            name += f"-tube-mask-{masks.tube_mask_ratio}"
        if masks.motion_mask_ratio:
            name += f"-motion-mask-{masks.motion_mask_ratio}"
        return self.folder / name

    def model(self, device: torch.device | str = "cpu") -> LCR:
        """The trained model in evaluation mode.

        Raises:
            CheckpointError: the weights are missing, broken or of another shape.
        """
        if not self.weights.is_file():
            last = self.folder / "last.safetensors"
            if self.which == "best" and last.is_file():
                raise CheckpointError(
                    f"{self.weights} is missing: no validation has chosen a best checkpoint, as "
                    f"without a labelled validation split. Take {self.folder}/last."
                )
            raise CheckpointError(
                f"{self.weights} is missing: the run was stopped before its first checkpoint. "
                "Train again, or resume with `videorwkv train ... --resume`."
            )
        model = build_model(self.recipe.model)
        load_weights(model, self.weights)
        return model.to(device).eval()


def load_run(path: str | Path) -> Run:
    """Read `runs/name`, `runs/name/best` or `runs/name/last` (best where there is one, else last).

    A file that `videorwkv export` wrote stands for its run, too.

    Raises:
        UsageError: nothing is there.
        CheckpointError: it is there, and is no run or a broken one.
    """
    path = Path(path)
    if path.suffix.lower() in (".onnx", ".xml"):
        from videorwkv.runtime import load_exported_run

        return load_exported_run(path)
    folder, which = path, ""
    if path.name.removesuffix(".safetensors") in ("best", "last") and not path.is_dir():
        folder, which = path.parent, path.name.removesuffix(".safetensors")
    if not folder.exists():
        raise UsageError(f"No run at {str(path)!r}. {_runs_beside(folder)}")
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f"{str(path)!r} is no run: it has no config.json. A run is a folder that "
            f"`videorwkv train` wrote. {_runs_beside(folder)}"
        )
    if not which:
        which = "best" if (folder / "best.safetensors").is_file() else "last"
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"{config}: format {values['format']!r}; this version reads format {FORMAT}. "
                "Use the version of videorwkv that wrote it, named under `versions`."
            )
        return Run(
            folder=folder,
            which=which,
            recipe=Recipe.from_dict(values["recipe"]),
            labels=tuple(values["labels"]),
            flips=values["flips"],
            data=values["data"],
            versions=values["versions"],
        )
    except ConfigError as error:
        raise CheckpointError(f"{config}: {error}") from error
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{config} can't be read ({type(error).__name__}: {error}). Restore it or train again."
        ) from error


def _runs_beside(folder: Path) -> str:
    parent = folder.parent
    names = sorted(p.parent.name for p in parent.glob("*/config.json")) if parent.is_dir() else []
    if not names:
        return "`videorwkv train DATA --out RUN` makes one."
    return did_you_mean(folder.name, names, lead=f"Runs in {str(parent)!r}")


def save_config(
    folder: Path,
    *,
    recipe: Recipe,
    labels: tuple[str, ...],
    flips: Mapping[str, str] | None,
    data: Mapping[str, Any],
) -> None:
    """Write config.json."""
    values = {
        "format": FORMAT,
        "recipe": recipe.to_dict(),
        "labels": list(labels),
        "flips": None if flips is None else dict(flips),
        "data": dict(data),
        "seed": recipe.seed,
        "versions": versions(),
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / "config.json", text)


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write state.pt: tensors and plain values only, so that reading it runs no code."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / "state.pt", buffer.getvalue())


def load_state(folder: Path) -> dict[str, Any]:
    """Read state.pt.

    Raises:
        CheckpointError: it is missing or broken.
    """
    path = folder / "state.pt"
    if not path.is_file():
        raise CheckpointError(
            f"Nothing to resume: {path} is missing. Train anew into another folder with --out."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} can't be read ({reason}). The weights beside it may be whole: "
            f"`videorwkv evaluate {folder}/last DATA`."
        ) from error
    return dict(state)


def versions() -> dict[str, str | None]:
    """What made a run: package, torch, Python, and the commit where the code is a checkout."""
    import videorwkv

    return {
        "videorwkv": videorwkv.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
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
