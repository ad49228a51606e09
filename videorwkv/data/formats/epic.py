"""EPIC-Kitchens (55 and 100): segments of long videos, with a verb and a noun each.

verb        ROOT/EPIC_100_{train,validation}.csv      the class is the verb (the default)
noun        the same files                            the class is the noun
action      the same files                            the class is verb and noun

    narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,
    start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes
    P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,...

The files may lie in annotations/, and have other columns as well. EPIC_100_test_timestamps.csv has
neither verbs nor nouns. Classes are told by their numbers; EPIC_100_verb_classes.csv (id,key) and
EPIC_100_noun_classes.csv name them, else the word that is most frequent.

Videos are ROOT/<participant>/videos/<video_id>.MP4, cut by the time stamps, or folders
ROOT/<participant>/rgb_frames/<video_id> of frames, cut by the numbers, which count from 1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from videorwkv.data.formats.segmented import Piece, assemble, columns_of, lists_in, rows_of
from videorwkv.data.manifest import Manifest
from videorwkv.data.segments import make_segment
from videorwkv.data.tables import read_csv, read_fields
from videorwkv.errors import ManifestError

LAYOUTS = {"verb": "verbs", "noun": "nouns", "action": "verbs with nouns"}
COLUMNS = ("video_id", "start_timestamp", "stop_timestamp")
_WORDS = ("epic", "100", "55", "timestamps", "action", "labels")


def read(root: Path, layout: str | None = None) -> Manifest:
    """The segments of a file of EPIC-Kitchens, or of those in a folder.

    Raises:
        ManifestError: no such file, or a row that can't be understood; the message names the line.
    """
    files = lists_in(root, recognises, "a CSV file with video_id,start_timestamp,stop_timestamp")
    folder = root if root.is_dir() else root.parent
    kind = layout or "verb"
    parts = ("verb", "noun") if kind == "action" else (kind,)
    rows = list(rows_of(files, COLUMNS, _WORDS))
    names = {part: _names(files[0].parent, part, [fields for *_, fields in rows]) for part in parts}
    pieces = []
    for split, line, where, fields in rows:
        segment = make_segment(fields["start_timestamp"], fields["stop_timestamp"], where)
        words = [names[part].get(fields.get(f"{part}_class", ""), "") for part in parts]
        if not all(words) and split != "test":
            raise ManifestError(f"{where}: it has no {parts[words.index('')]}_class.")
        pieces.append(
            Piece(
                fields["video_id"],
                segment.start,
                segment.end,
                " ".join(words) if all(words) else None,
                split,
                where,
                line,
                fields.get("participant_id", ""),
                _frames(fields, where),
            )
        )
    where = ", ".join(file.name for file in files)
    return assemble(
        "epic", folder, pieces, notes=[f"EPIC-Kitchens, {LAYOUTS[kind]} as classes: {where}"]
    )


def recognises(path: Path) -> bool:
    """Whether a file is such a list."""
    found = columns_of(path)
    return {*COLUMNS, "narration_id"} <= found or {*COLUMNS, "verb_class"} <= found


def _names(folder: Path, part: str, rows: list[dict[str, str]]) -> dict[str, str]:
    """Number of a class, as text -> its name."""
    for file in sorted(folder.glob(f"EPIC*_{part}_classes.csv")):
        header = next(read_fields(file), (0, []))[1]
        key = next((n for n in ("key", "class_key") if n in header), "key")
        number = next((n for n in (f"{part}_id", "id") if n in header), "id")
        return {f[number]: f[key] for _, f in read_csv(file, required=(number, key))}
    words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for fields in rows:
        if number := fields.get(f"{part}_class", ""):
            words[number][fields.get(part, "") or number] += 1
    names: dict[str, str] = {}
    for number, found in words.items():
        word = found.most_common(1)[0][0]
        names[number] = word if word not in names.values() else f"{word} ({number})"
    return names


def _frames(fields: Mapping[str, str], where: str) -> tuple[int, int] | None:
    """From 0, the last one not included; the file counts from 1, the last one included. Its first
    frame is 0 at times, where a time stamp was multiplied by the rate."""
    first, last = fields.get("start_frame", ""), fields.get("stop_frame", "")
    if not first or not last:
        return None
    if not (first.isdecimal() and last.isdecimal()) or int(last) < max(1, int(first)):
        raise ManifestError(
            f"{where}: start_frame {first!r} and stop_frame {last!r} are no segment; frames count "
            "from 1."
        )
    return max(0, int(first) - 1), int(last)
