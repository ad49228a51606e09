"""A run's folder: what was trained, on what, and the weights. Every file is written atomically.

config.json            recipe, labels, flips, data (see `Run`), seed, versions
best.safetensors       weights at the best validation; absent without a validation split
last.safetensors       weights at the last checkpoint
model.safetensors      the weights of a model that was shared (run/hub.py), in place of these two
state.pt               what resuming needs (training/state.py)
log.jsonl              one JSON object a line: steps, validations, bad clips, baselines
loggers.json           where else curves go, and under which names (training/loggers/known.py)
tensorboard/           the same curves
.lock                  held by the training that writes to the folder (training/lock.py)
.lock-mark             the same, where the file system has no locks
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videorwkv.data.manifest import Manifest
from videorwkv.errors import CheckpointError, ConfigError, UsageError, did_you_mean
from videorwkv.models.lcr import LCR
from videorwkv.models.masking import NO_MASKS, Masks
from videorwkv.models.presets import build_model
from videorwkv.run.description import Description, read_description
from videorwkv.run.environment import versions
from videorwkv.run.recipes import Recipe
from videorwkv.run.tensors import read_tensors, require_fitting, tensors_bytes
from videorwkv.utils.files import write_atomic
from videorwkv.utils.hub import fetch, is_hub, local_name
from videorwkv.utils.values import SEAL, brief, read_json, sealed

FORMAT = 1
# Clips that a run notes, to know its data set again when clips were added.
NAMES = 128


@dataclass(frozen=True, kw_only=True)
class Run(Description):
    """A trained run on disk.

    Args:
        folder: the run's folder.
        which: `best` or `last`, the weights that `model` loads; `model` in one that was shared.
        recipe: how it was trained.
        labels: class names, in the order of the logits.
        flips: label -> label after a horizontal flip, or None.
        data: name, digest, digest of the clips whatever their splits, and split sizes of what it
            was trained on; also a hash of its place, and the first hashes of its paths.
        versions: package, torch, Python and, where known, the commit.
        init: the weights that it started from and what of them fitted (`Fit.to_dict`); None: none.
        source: `hf:owner/name`, where it is from the Hub; empty: from a folder.
    """

    folder: Path
    which: str
    source: str = ""

    @property
    def weights(self) -> Path:
        return self.folder / f"{self.which}.safetensors"

    def weights_sha256(self) -> str:
        """Of the file of its weights, 64 hexadecimal digits; `CheckpointError` if there is none."""
        try:
            return hashlib.sha256(self.weights.read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{self.weights} can't be read: {error.strerror}.") from error

    @property
    def outputs(self) -> Path:
        """The folder for what is made of it: its own, but not in the cache of the Hub."""
        return Path("runs", local_name(self.source)) if self.source else self.folder

    def results(
        self, split: str, *, views: tuple[int, int] | None = None, masks: Masks = NO_MASKS
    ) -> Path:
        """The folder where an evaluation of `split` goes; all that is unusual is in its name.

        Args:
            split: train, validation, test or all.
            views: temporal and spatial views; the run's own if None.
            masks: the patches that are masked.
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
        return self.outputs / name

    def to_dict(self) -> dict[str, Any]:
        """What config.json says: JSON-ready values."""
        values = {
            "format": FORMAT,
            "recipe": self.recipe.to_dict(),
            "labels": list(self.labels),
            "flips": None if self.flips is None else dict(self.flips),
            "data": dict(self.data),
            "seed": self.recipe.seed,
            "versions": dict(self.versions),
        }
        return values if self.init is None else {**values, "init": dict(self.init)}

    def is_split_anew(self, manifest: Manifest) -> bool:
        """Whether these are the very clips that it was trained on, split in another way.

        Args:
            manifest: all splits. Runs that do not note their clips give False.
        """
        known = self.data.get("clips") == clips_digest(manifest)
        return known and self.data["digest"] != manifest.digest

    def relation(self, manifest: Manifest) -> Literal["same", "changed", "alike", "other"]:
        """What a data set has to do with the one that it was trained on: the same clips; clips
        added or removed; clips of the same names in another place; or nothing.

        Runs that do not note their clips give `other`.
        """
        if self.data.get("clips") == clips_digest(manifest):
            return "same"
        shared = set(self.data.get("names", ())) & _name_hashes(manifest)
        if not shared:
            return "other"
        return "changed" if self.data.get("place") == place_digest(manifest) else "alike"

    def has_weights_of(self, model: LCR) -> bool:
        """Whether the weights of a model that was loaded from this run are still those of the run;
        `model` may be a copy of `for_inference`, too."""
        try:
            own = self.model()
        except CheckpointError:  # it is gone, or is another one now
            return False
        if model.is_folded:
            half = any(x.dtype == torch.bfloat16 for x in model.parameters())
            own = own.for_inference(half=half, compiled=not model.adjacent_pairs)
        kept, given = own.state_dict(), model.state_dict()
        if kept.keys() != given.keys():
            return False
        pairs = ((tensor, given[name].cpu()) for name, tensor in kept.items())
        if model.is_folded:  # where it was folded, sums may be rounded in another way
            return all(_are_close(*pair) for pair in pairs)
        return all(torch.equal(*pair) for pair in pairs)

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
        require_fitting(self.weights, self.recipe.model)
        try:
            model = build_model(self.recipe.model)
        except ConfigError as error:
            raise CheckpointError(f"{self.folder / 'config.json'}: {error}") from error
        load_weights(model, self.weights)
        return model.to(device).eval()


def _are_close(one: Tensor, other: Tensor) -> bool:
    one, other = one.float(), other.float()
    return one.shape == other.shape and bool((one - other).norm() <= 1e-4 * one.norm())


def read_run(path: str | Path) -> Run:
    """Read `runs/name`, `runs/name/best` or `runs/name/last` (best where there is one, else last),
    or `hf:owner/name[@revision]` of the Hub.

    Raises:
        UsageError: nothing is there.
        CheckpointError: it is there, and is no run or a broken one; the Hub can't be reached.
    """
    if is_hub(path):
        return fetch_run(path)
    path = Path(path)
    folder, which = path, ""
    names = ("best", "last", "best.safetensors", "last.safetensors", "model.safetensors")
    if path.name in names and not path.is_dir():
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
        kept = (
            name for name in ("best", "last", "model") if (folder / f"{name}.safetensors").is_file()
        )
        which = next(kept, "last")
    try:
        values = read_json(config)
        if "format" not in values:
            kind = values.get("model_type")
            raise CheckpointError(
                f"{config} is not that of a run of videorwkv"
                + (f", but of a model of type {brief(kind)}." if kind else ": it has no `format`.")
            )
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"{config}: format {brief(values['format'])}; this version reads format "
                f"{FORMAT}. Use the version of videorwkv that wrote it, named under `versions`."
            )
        described = read_description(values)
        if not described.data:
            raise ConfigError("data: empty, though a run knows what it was trained on")
    except ConfigError as error:
        raise CheckpointError(
            f"{config}: {str(error).rstrip('.')}. Restore the file or train again."
        ) from error
    except (ValueError, OSError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise CheckpointError(
            f"{config} can't be read: {reason}. Restore it or train again; if it was edited on "
            f'purpose, take the line "{SEAL}" out of it.'
        ) from error
    return Run(folder=folder, which=which, **vars(described))


def fetch_run(source: str | Path, **options: Any) -> Run:
    """A run of the Hub; `options` as in `videorwkv.utils.hub.fetch`, errors as in `read_run`."""
    # That of a model that was pushed comes first; a run's folder may have been uploaded as it is.
    weights = [f"{name}.safetensors" for name in ("model", "best", "last")]
    folder = fetch(source, "config.json", read_run, weights, **options)
    return replace(read_run(folder), source=str(source))


def _runs_beside(folder: Path) -> str:
    # `train` without --out writes into runs/.
    for parent in (folder.parent, Path("runs")):
        names = sorted(p.parent.name for p in parent.glob("*/config.json"))
        if names:
            return did_you_mean(folder.name, names, lead=f"Runs in {str(parent)!r}")
    return "`videorwkv train DATA --out RUN` makes one."


def save_config(
    folder: Path,
    *,
    recipe: Recipe,
    labels: tuple[str, ...],
    flips: Mapping[str, str] | None,
    data: Mapping[str, Any],
    init: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json of a run that begins here."""
    run = Run(
        folder=folder, which="", recipe=recipe, labels=labels, flips=flips, data=data,
        versions=versions(), init=init,
    )  # fmt: skip
    write_config(folder, run.to_dict())


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write config.json with what `Run.to_dict` gives, and with more if need be."""
    text = json.dumps(sealed(values), indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / "config.json", text)


def clips_digest(manifest: Manifest) -> str:
    """As `Manifest.digest`, whatever the splits: 12 hexadecimal digits over paths and labels."""
    return manifest.split_by(lambda row: "").digest


def place_digest(manifest: Manifest) -> str:
    """12 hexadecimal digits for the folder that paths are relative to, which stays unnamed."""
    return folder_digest(manifest.root)


def folder_digest(folder: str | Path) -> str:
    """The same of a folder."""
    return hashlib.sha256(os.path.realpath(folder).encode(errors="replace")).hexdigest()[:12]


def first_names(manifest: Manifest) -> list[str]:
    """The smallest hashes of its clips' relative paths: enough to know them again among others."""
    return sorted(_name_hashes(manifest))[:NAMES]


def _name_hashes(manifest: Manifest) -> set[str]:
    paths = (manifest.relative_path(row).encode(errors="surrogateescape") for row in manifest.rows)
    return {hashlib.sha256(path).hexdigest()[:12] for path in paths}


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict to `path`; an old file stays until the new one is whole.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.
    """
    write_atomic(path, tensors_bytes(weights))


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` from `path`; every name, shape and type must match.

    Raises:
        CheckpointError: no file, not a safetensors file, weights of another model, or damaged ones.
    """
    model.load_state_dict(read_tensors(path, model.state_dict()))
