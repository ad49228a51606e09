"""A data set by its name or place -> its manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from videorwkv.data import formats
from videorwkv.data.flips import read_flip_table
from videorwkv.data.hold_out import hold_out
from videorwkv.data.hub import fetch, is_hub_data
from videorwkv.data.manifest import Manifest
from videorwkv.data.motion.clips import MotionOptions, motion_manifest
from videorwkv.data.motion.film import film_manifest
from videorwkv.data.motion.gestures import GestureOptions, gesture_manifest
from videorwkv.data.motion.scenes import SceneOptions, scene_manifest
from videorwkv.data.nothing import NothingOptions, nothing_manifest
from videorwkv.data.segments import segment_notes
from videorwkv.errors import ManifestError, UsageError

# Of every class, where a data set defines no split.
VALIDATION_SHARE = 0.2


def load_manifest(
    spec: str | Path,
    *,
    validation_share: float = VALIDATION_SHARE,
    flips: str | Path | None = None,
    layout: str | None = None,
    label_names: str | Path | None = None,
    label_by: str | None = None,
    group_by: str | None = None,
    group_column: str | None = None,
) -> Manifest:
    """A data set by its name or place.

    Args:
        spec: one of

            - `motion` or `motion:train=4000,size=64,...`, `gestures` or `gestures:train=100,...`,
              `nothing` or `nothing:minutes=10`: generated;
            - a folder per class: `root/<class>/clip.mp4`, or
              `root/{train,validation,test}/<class>/clip.mp4`;
            - a CSV file with header `path,label[,split]`, and with `start,end` in seconds or
              `start_frame,end_frame` where clips are segments of files;
            - a list of `path label`, `path,label` or `folder n_frames label` without header;
            - `jester:ROOT`, `ssv2:ROOT`, `kinetics400:ROOT`: the official data sets, in the
              layouts that `videorwkv/data/formats/` draws. Their lists in a plain folder are
              recognised;
            - `ucf101:ROOT`, `hmdb51:ROOT`, with their official splits;
            - the annotations of EPIC-Kitchens, ActivityNet, FineGym, Charades or WLASL, a file that
              is recognised, or `epic:ROOT`, `activitynet:ROOT`, `finegym:ROOT`, `charades:ROOT`,
              `wlasl:ROOT`: segments of long videos;
            - `imagenet:ROOT`: a folder of pictures a class, each a clip of one frame;
            - shards: a folder of WebDataset's tars, `shards:DIR/train-{000000..000012}.tar`, or the
              same at an address: `https://...`, `s3://...`;
            - a folder with a `metadata.csv` or `metadata.jsonl` of VideoFolder;
            - `hf:owner/name[@revision]`: a data set of the Hugging Face Hub in any of these forms
              (`pip install 'videorwkv[hub]'`), downloaded to the Hub's own cache.

            `folder:ROOT`, `csv:FILE`, `list:FILE` and `videofolder:ROOT` name the reader.
        validation_share: fraction of every class that becomes `validation` where the data set
            defines no split, chosen by a hash of the path; 0 leaves all in `train`.
        flips: CSV file `label,flipped`: see `read_flip_table`.
        layout: which of the data set's layouts it is; None recognises it and says so in `notes`.
        group_by: which clips stay on one side where the data set defines no split: `auto` (None
            means it) those of one person, session or recording by a column or their names, `none`,
            or a regular expression whose capture group 1 names the group.
        group_column: the column of a CSV file that names the groups, in place of `group_by`.
        label_by: a regular expression whose capture group 1 is the label, searched for in the path
            of every clip below the folder `spec`, whatever folders there are.
        label_names: file with the names of labels that are numbers, see `read_label_names`.

    Raises:
        UsageError: the place does not exist, or the reader or layout is unknown.
        ManifestError: it can't be understood, or no clip of it is on disk; the message names file
            and line.
    """
    if not 0 <= validation_share < 1:
        raise UsageError(f"validation_share ({validation_share}) must lie in [0, 1).")
    place, fetched = str(spec), ""
    if is_hub_data(place):
        folder, fetched = fetch(place)
        place = str(folder)
    kind, _, rest = place.partition(":")
    generated: dict[str, Callable[[str], Manifest]] = {
        "motion": _motion,
        "gestures": lambda options: gesture_manifest(GestureOptions.parse(options)),
        "scenes": lambda options: scene_manifest(SceneOptions.parse(options)),
        "nothing": lambda options: nothing_manifest(NothingOptions.parse(options)),
    }
    if kind in generated:
        given = (
            *(("--layout", layout), ("--label-names", label_names), ("--group-by", group_by)),
            *(("--label-by", label_by), ("--group-column", group_column)),
        )
        for name, value in given:
            if value is not None:
                raise UsageError(f"{name} {value}: {kind} is generated and has none.")
        manifest = generated[kind](rest)
    else:
        if group_by is not None and group_column is not None:
            raise UsageError(
                f"--group-by {group_by} and --group-column {group_column}: give one of them."
            )
        manifest = formats.read(
            place,
            layout=layout,
            label_names=label_names,
            label_by=label_by,
            group_column=group_column,
        )
        if fetched:
            manifest = replace(manifest, notes=(fetched, *manifest.notes))
    if not manifest.rows and manifest.missing:
        raise ManifestError(
            f"{spec}: none of the {len(manifest.missing):,} listed clips is on disk; the first is "
            f"wanted at {manifest.missing[0].path}. How it was read: {'; '.join(manifest.notes)}."
        )
    if not manifest.rows:
        raise ManifestError(f"{spec}: no clip.")
    if all(row.split == "" for row in manifest.rows):
        manifest = hold_out(manifest, validation_share, group_by or "auto")
    elif group_by not in (None, "auto", "none"):
        raise UsageError(f"--group-by {group_by}: {spec} names its splits, which are kept.")
    if notes := segment_notes(manifest):
        manifest = replace(manifest, notes=(*manifest.notes, *notes))
    if flips is not None:
        manifest = replace(manifest, flips=read_flip_table(flips, manifest.labels))
    return manifest


def _motion(text: str) -> Manifest:
    options = MotionOptions.parse(text)
    return film_manifest(options) if options.timeline else motion_manifest(options)
