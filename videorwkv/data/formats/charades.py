"""Charades: household activities in videos of half a minute, several at a time.

segments    ROOT/Charades_v1_{train,test}.csv     each annotated action is a clip (the default)
videos      the same files                        each video is a clip with all its actions

    id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
    46GP8,HR43,Kitchen,6,7,Yes,"...",food,"...",c092 11.90 21.20;c147 0.00 12.60,24.83

    c000 Holding some clothes                     Charades_v1_classes.txt, beside them

Videos are called <id>.mp4, or are folders <id> of frames, of 24 a second in the official ones. An
action that is annotated to the same moments as another makes a segment of several labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from videorwkv.data.formats.segmented import (
    Piece,
    assemble,
    check_times,
    columns_of,
    lists_in,
    rows_of,
)
from videorwkv.data.manifest import Manifest, join_labels
from videorwkv.data.tables import read_text, split_lines
from videorwkv.errors import ManifestError

LAYOUTS = {"segments": "each action as a clip", "videos": "each video as a clip with its actions"}
CLASSES = "Charades_v1_classes.txt"
_CLASS = re.compile(r"(c\d+)\s+(\S.*)")


def read(root: Path, layout: str | None = None) -> Manifest:
    """The actions of a file of Charades, or of those in a folder.

    Raises:
        ManifestError: no such file, or a row that can't be understood; the message names the line.
    """
    files = lists_in(root, recognises, "a CSV file with id,actions,length")
    folder = root if root.is_dir() else root.parent
    kind = layout or "segments"
    names = _names(files[0].parent / CLASSES)
    pieces: list[Piece] = []
    lengths: dict[str, float] = {}
    for split, line, where, fields in rows_of(files, ("id", "actions"), ("charades", "v1")):
        if fields.get("length"):
            lengths[fields["id"]] = check_times(0, fields["length"], where)[1]
        group = fields.get("subject", "")
        actions = list(_actions(fields["actions"], where, names))
        if kind == "videos":
            actions = [(join_labels(name for name, _, _ in actions), 0.0, math.inf)]
        pieces += [
            Piece(fields["id"], start, end, label, split, where, line, group)
            for label, start, end in actions
        ]
    listed = ", ".join(file.name for file in files)
    notes = [f"Charades, {LAYOUTS[kind]}: {listed}"]
    if not names:
        notes.append(f"{CLASSES} is not beside them: classes are numbers")
    manifest = assemble(
        "charades", folder, pieces, notes=notes, lengths=lengths, is_multilabel=True
    )
    # Half a minute in one room: each is a recording of its own, but people return.
    return replace(manifest, frame_rate=24.0)


def recognises(path: Path) -> bool:
    """Whether a file is such a list."""
    found = columns_of(path)
    return {"id", "actions"} <= found and bool({"length", "subject"} & found)


def _actions(text: str, where: str, names: Mapping[str, str]) -> Iterator[tuple[str, float, float]]:
    """(class, start, end) of `c092 11.90 21.20;c147 0.00 12.60`."""
    for part in filter(None, (part.strip() for part in text.split(";"))):
        words = part.split()
        if len(words) != 3:
            raise ManifestError(f"{where}: {part[:80]!r} is no action; wanted `c092 11.90 21.20`.")
        if names and words[0] not in names:
            raise ManifestError(f"{where}: class {words[0]!r} is not in {CLASSES}.")
        start, end = check_times(words[1], words[2], where)
        yield names.get(words[0], words[0]), start, end


def _names(path: Path) -> dict[str, str]:
    """Number of a class -> its name; empty without such a file."""
    if not path.is_file():
        return {}
    names: dict[str, str] = {}
    for line, text in enumerate(split_lines(read_text(path)), start=1):
        if not text.strip():
            continue
        match = _CLASS.fullmatch(text.strip())
        if match is None:
            raise ManifestError(f"{path}:{line}: wanted `c000 Holding some clothes`.")
        if match[2] in names.values():
            raise ManifestError(f"{path}:{line}: {match[2]!r} is there twice.")
        names[match[1]] = match[2]
    return names
