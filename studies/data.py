"""Which clips a study trains on and which it measures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from videorwkv.data.load import VALIDATION_SHARE, load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.errors import DataError, UsageError


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """A data set as the command line describes it; see `load_manifest` and `folds`.

    Args:
        spec: name or place; None takes the generated data of the study's budget.
        fold_by, folds: groups for cross-validation; both or none.
        rest: `validation_share`, `flips`, `layout`, `label_names`, `decoder`.
    """

    spec: str | None = None
    fold_by: str | None = None
    folds: str | None = None
    validation_share: float = VALIDATION_SHARE
    flips: str | None = None
    layout: str | None = None
    label_names: str | None = None
    decoder: str = "auto"

    def __post_init__(self) -> None:
        if (self.fold_by is None) != (self.folds is None):
            raise UsageError("--fold-by and --folds belong together: give both or none.")

    def load(self, spec: str) -> tuple[Manifest, ...]:
        """The data set, or one a fold."""
        from videorwkv.data.folds import folds

        generated = is_generated(spec)
        manifest = load_manifest(
            spec,
            validation_share=self.validation_share,
            flips=None if generated else self.flips,
            layout=None if generated else self.layout,
            label_names=None if generated else self.label_names,
        )
        manifest = replace(manifest, decoder=self.decoder)
        if self.fold_by is None or self.folds is None:
            return (manifest,)
        return tuple(folds(manifest, self.fold_by, self.folds))

    def words(self) -> list[str]:
        """The same as options of the command line."""
        pairs = {
            "--fold-by": self.fold_by,
            "--folds": self.folds,
            "--flips": self.flips,
            "--layout": self.layout,
            "--label-names": self.label_names,
            "--validation-share": None
            if self.validation_share == VALIDATION_SHARE
            else str(self.validation_share),
        }
        return [word for name, value in pairs.items() if value for word in (name, value)]


def is_generated(spec: str) -> bool:
    """Whether `spec` is the data set that is made and not read."""
    return spec.partition(":")[0] == "motion"


def merge_options(spec: str, options: str) -> str:
    """`motion:train=8,size=64` with `frames=48,size=32` -> `motion:frames=48,size=32,train=8`."""
    kind, _, given = spec.partition(":")
    pairs = [part.partition("=") for part in _parts(given) + _parts(options)]
    values = {name.strip(): value.strip() for name, _, value in pairs}
    return f"{kind}:" + ",".join(f"{name}={value}" for name, value in sorted(values.items()))


def _parts(options: str) -> list[str]:
    return [part for part in options.split(",") if part.strip()]


def training_clips(manifest: Manifest) -> Manifest:
    """The `train` split alone: without `validation`, the last weights count and nothing is chosen
    by looking at clips that are measured later."""
    return manifest.split("train")


def test_clips(manifest: Manifest) -> Manifest:
    """The labelled clips of `test`, or of `validation` where there are none.

    Raises:
        DataError: neither has a clip with a label, or clips have several.
    """
    if manifest.multilabel:
        raise DataError(
            f"{manifest.name}: studies measure top-1, and its clips have several labels. Choose "
            "clips with one label."
        )
    for name in ("test", "validation"):
        if name in manifest.splits:
            split = manifest.split(name)
            labelled = tuple(row for row in split.rows if row.label is not None)
            if labelled:
                return replace(split, rows=labelled)
    raise DataError(
        f"{manifest.name} has no labelled clip in a test or a validation split (splits: "
        f"{', '.join(manifest.splits) or 'none'}), so nothing can be measured. Give it one, or "
        "leave out the split column, so that a fifth is held out."
    )
