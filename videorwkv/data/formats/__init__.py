"""One reader a data set: a place -> `Manifest`. Each module draws the layouts that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from videorwkv.data.formats import (
    activitynet,
    annotation_lists,
    charades,
    csv,
    epic,
    finegym,
    folder,
    hmdb51,
    imagenet,
    jester,
    kinetics,
    named,
    shards,
    ssv2,
    ucf101,
    videofolder,
    wlasl,
)
from videorwkv.data.manifest import Manifest
from videorwkv.data.tables import read_fields
from videorwkv.errors import UsageError, did_you_mean
from videorwkv.utils.remote import check_address, is_address

READERS: dict[str, Callable[..., Manifest]] = {
    "jester": jester.read,
    "ssv2": ssv2.read,
    "kinetics400": kinetics.read,
    "imagenet": imagenet.read,
    "epic": epic.read,
    "activitynet": activitynet.read,
    "finegym": finegym.read,
    "charades": charades.read,
    "wlasl": wlasl.read,
    "ucf101": ucf101.read,
    "hmdb51": hmdb51.read,
    "shards": shards.read,
    "videofolder": videofolder.read,
    "folder": folder.read,
    "csv": csv.read,
    "list": annotation_lists.read,
}
# What `--layout` may name: layout -> what it is.
LAYOUTS: dict[str, Mapping[str, str]] = {
    "jester": jester.LAYOUTS,
    "ssv2": ssv2.LAYOUTS,
    "kinetics400": kinetics.LAYOUTS,
    "imagenet": imagenet.LAYOUTS,
    "epic": epic.LAYOUTS,
    "activitynet": activitynet.LAYOUTS,
    "finegym": finegym.LAYOUTS,
    "charades": charades.LAYOUTS,
    "wlasl": wlasl.LAYOUTS,
    "ucf101": ucf101.LAYOUTS,
    "hmdb51": hmdb51.LAYOUTS,
    "shards": {},
    "videofolder": {},
    "folder": folder.LAYOUTS,
    "csv": {},
    "list": annotation_lists.LAYOUTS,
}
ALIASES = {
    **dict.fromkeys(("k400", "kinetics"), "kinetics400"),
    **dict.fromkeys(("epic100", "epickitchens"), "epic"),
}
# Read from a file of annotations, which is recognised, or from the folder that it lies in.
_ANNOTATED: dict[str, Callable[[Path], bool]] = {
    "epic": epic.recognises,
    "charades": charades.recognises,
    "activitynet": activitynet.recognises,
    "wlasl": wlasl.recognises,
    "finegym": finegym.recognises,
}
# A plain folder with their lists in it is read as one of these.
_RECOGNISED: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "jester": ("Jester", jester.recognises),
    "ssv2": ("Something-Something V2", ssv2.recognises),
    "kinetics400": ("Kinetics-400", kinetics.recognises),
    "videofolder": ("VideoFolder", videofolder.recognises),
}


def read(
    spec: str,
    *,
    layout: str | None = None,
    label_names: str | Path | None = None,
    label_by: str | None = None,
    group_column: str | None = None,
) -> Manifest:
    """A data set by `KIND:PLACE`, or by its place alone; see `load_manifest`.

    The rows are empty where none of the listed clips is on disk: all are in `missing` then.
    """
    if label_by is not None:
        return _read_named(spec, label_by, layout, label_names, group_column)
    kind, place, notes = _choose(spec)
    options: dict[str, Any] = {}
    if layout is not None:
        allowed = LAYOUTS[kind]
        if layout not in allowed:
            raise UsageError(f"{kind}: unknown layout {layout!r}. {did_you_mean(layout, allowed)}")
        options["layout"] = layout
    if label_names is not None:
        if kind not in ("csv", "list", "shards", "videofolder"):
            raise UsageError(
                f"--label-names {label_names}: for lists, CSV files, shards and metadata whose "
                f"labels are numbers; {spec} is read as {kind}, which names its labels."
            )
        options["label_names"] = Path(label_names)
    if group_column is not None:
        if kind != "csv":
            raise UsageError(
                f"--group-column {group_column}: for CSV files; {spec} is read as {kind}. "
                "--group-by REGEX tells groups by the paths."
            )
        options["group_column"] = group_column
    manifest = READERS[kind](place, **options)
    return replace(manifest, notes=(*notes, *manifest.notes))


def _read_named(
    spec: str,
    label_by: str,
    layout: str | None,
    label_names: str | Path | None,
    group_column: str | None,
) -> Manifest:
    for name, value in (("--layout", layout), ("--group-column", group_column)):
        if value is not None:
            raise UsageError(f"{name} {value} does not go with --label-by, which reads a folder.")
    if not Path(spec).is_dir():
        raise UsageError(f"--label-by {label_by}: a folder of clips is wanted; got {spec}.")
    return named.read(Path(spec), label_by, None if label_names is None else Path(label_names))


def _choose(spec: str) -> tuple[str, Path | str, list[str]]:
    """Reader, place, and a note where the place alone has told which reader it is."""
    path = Path(spec)
    kind, colon, rest = spec.partition(":")
    if is_address(spec):
        check_address(spec)
        return "shards", spec, []
    if kind == "shards" and (is_address(rest) or "{" in rest):
        return "shards", rest, []
    if path.is_dir():
        return _choose_for_folder(path)
    if path.is_file():
        return _choose_for_file(path), path, []
    # One letter is a Windows drive.
    if colon and len(kind) > 1 and kind.isalnum():
        kind = ALIASES.get(kind, kind)
        if kind not in READERS:
            names = ["motion", "gestures", "scenes", *READERS, *ALIASES]
            raise UsageError(f"Unknown data set reader {kind!r}. {did_you_mean(kind, names)}")
        path = Path(rest)
        if not path.exists():
            raise UsageError(f"{rest}: no such file or folder.")
        if kind not in ("csv", "list", "shards", *_ANNOTATED) and not path.is_dir():
            raise UsageError(f"{spec}: {kind} is read from a folder, and {rest} is a file.")
        if kind == "csv" and path.is_dir():
            raise UsageError(f"{spec}: a CSV file is wanted, and {rest} is a folder.")
        return kind, path, []
    hint = " 'motion', 'gestures' and 'scenes' are generated." if "/" not in spec else ""
    raise UsageError(f"{spec}: no such file or folder.{hint}")


def _choose_for_folder(path: Path) -> tuple[str, Path, list[str]]:
    for kind, (title, recognises) in _RECOGNISED.items():
        if recognises(path):
            note = f"read as {title} by the lists in it; folder:{path} takes its folders as classes"
            return kind, path, [note]
    if shards.recognises(path):
        return "shards", path, []
    return "folder", path, []


def _choose_for_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return "shards"
    for kind, recognises in _ANNOTATED.items():
        if recognises(path):
            return kind
    if suffix not in annotation_lists.LIST_SUFFIXES:
        raise UsageError(
            f"{path}: a data set is a folder with a folder per class, a .csv file with the header "
            "path,label[,split], a list (.txt) of `path label`, the annotations of EPIC-Kitchens, "
            "ActivityNet, FineGym, Charades or WLASL, the root of jester:, ssv2:, kinetics400: or "
            "imagenet:, shards (.tar), 'motion', 'gestures' or 'scenes'."
        )
    header = next(read_fields(path, delimiters=",;\t"), (0, []))[1]
    if {"youtube_id", "time_start"} <= {*header} and "path" not in header:
        raise UsageError(_read_with_its_folder(path, "kinetics400"))
    if path.name.lower().startswith("jester-v1-") and header[:1] and header[0].isdecimal():
        raise UsageError(_read_with_its_folder(path, "jester"))
    if {"path", "label"} <= {name.lower() for name in header} or not annotation_lists.recognises(
        path
    ):
        return "csv"
    return "list"


def _read_with_its_folder(path: Path, kind: str) -> str:
    return (
        f"{path}: a list of {_RECOGNISED[kind][0]}, which is read together with its clips and the "
        f"other lists. Give the data set's folder: {kind}:{path.parent} or the one above."
    )
