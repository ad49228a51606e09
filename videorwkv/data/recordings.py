"""Which clips show one person, one session or one recording, by their names.

Such clips look alike: those held out for validation would be known from training. Segments of one
file belong together in any case. A rule is tried
on the whole data set and taken only if it puts clips together and leaves two groups or more to most
classes; so numbers that merely count clips (`clip_001`, `left/s1`) group nothing.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from videorwkv.data.folds import group_pattern
from videorwkv.data.formats.folder import FRAME_FOLDERS
from videorwkv.data.formats.tree import video_stem
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import UsageError

# Whole words: no letter or digit may touch them.
_BEFORE, _AFTER = r"(?<![^\W_])", r"(?![^\W_])"
_PERSON_WORDS = (
    "person|persons|people|subject|subjects|subj|sub|patient|participant|proband|actor|performer|"
    "signer|speaker|volunteer|user|driver|player|child|dancer|student|worker|pers|sbj|pp"
)
_PERSON = re.compile(rf"{_BEFORE}(({_PERSON_WORDS})(?:[-_ ]?\d+|[-_ ][a-z])){_AFTER}", re.I)
# NTU RGB+D: setup, camera, performer, repetition, action.
_NTU = re.compile(r"S\d{3}C\d{3}(P\d{3})R\d{3}A\d{3}")
# A letter is taken at the beginning of a name that goes on, as a folder, or as a padded code.
_CODE = re.compile(r"((?:[psu]|id|sj|vp)\d{1,4})(?=[-_ .]+\w)", re.I)
_CODE_FOLDER = re.compile(r"(?:[psu]|id|sj|vp)\d{1,4}", re.I)
_CODE_INSIDE = re.compile(rf"{_BEFORE}([PS]\d{{2,3}}{_AFTER}|[ps]\d{{2,3}}(?=[-_ .]+\w))")
_SESSION = re.compile(
    rf"{_BEFORE}((?:session|sessions|sess|recording|record|rec|day|visit)[-_ ]?\d+){_AFTER}", re.I
)
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d([-_.]?)[01]\d\2[0-3]\d(?:[-_ T]?[012]\d[-_.h]?[0-5]\d[-_.m]?[0-5]\d)?)"
    r"(?!\d)"
)
_UCF = re.compile(r"((?:.*[-_])?g\d+)[-_]c\d+", re.I)
# HMDB51: what was cut, the class, then body, camera, people, direction, quality and the number.
_HMDB = re.compile(r"(.*)_[hluf]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_(?:goo|med|bad)_\d+")
_PART = re.compile(r"(.*[^\W_])[-_ .]*(?:part|pt|segment|seg|cut|chunk|piece)[-_ ]?\d+", re.I)
_SHOT = re.compile(r"(.*\d.*?)[-_ .]*(?:clip|shot|scene|window|win)[-_ ]?\d+", re.I)
_TIMES = re.compile(r"(.*[^\W_].*?)[-_](\d+(?:\.\d+)?)[-_](\d\d+(?:\.\d+)?)s?")
_YOUTUBE = re.compile(r"((?=.{0,10}\d)(?=.{0,10}[a-z])(?=.{0,10}[A-Z])[\w-]{11})[-_]\d+", re.A)
_SOURCE = re.compile(
    r"((?:video|vid|movie|film|match|game|source|episode)[-_ ]?\d+)[-_ ](.*\d.*)", re.I
)
_COPY = re.compile(
    r"[-_ ]+(?:(?:aug|augmented|augmentation|flip|flipped|hflip|mirror|mirrored|rot|rotated|crop|"
    r"cropped|noise|noisy|blur|blurred|bright|dark|copy|kopie)[-_]?\d*|copy \(\d+\))$",
    re.I,
)
_WORDS_AND_NUMBER = re.compile(r"([^\W\d_]{2,}(?:[-_ ][^\W\d_]+)*)[-_ ]?(\d*)")
# What cameras and people call any clip.
_COUNTED = frozenset(
    {"clip", "clips", "video", "vid", "movie", "mov", "film", "img", "image", "pic", "photo", "dsc",
     "dscn", "dscf", "mvi", "gopr", "gp", "gh", "gx", "pxl", "mah", "sam", "trim", "take", "trial",
     "rep", "sample", "example", "test", "train", "val", "validation", "file", "frame", "frames",
     "seq", "sequence", "item", "data", "no", "nr", "number", "out", "output", "recording", "rec",
     "shot", "scene", "part", "cut", "segment", "seg", "window", "copy", "new", "final"}
)  # fmt: skip
_CAMERA = re.compile(rf"{_BEFORE}(?:cam|camera|view|angle|kinect)[-_ ]?\d+{_AFTER}", re.I)


class Groups(NamedTuple):
    """Clips that belong together.

    Args:
        group_of: row -> group; a row that is not in it stands alone.
        what: what a group is (`person`, `session`, `recording`), for messages.
        example: a name that tells it; empty where a column does.
    """

    group_of: dict[Row, str]
    what: str
    example: str


class _Name(NamedTuple):
    """A row's path in parts: folders without the class, the name without class and suffix; and
    whether the name ended with the class."""

    folders: list[str]
    stem: str
    label: str
    ended: bool


def find_groups(manifest: Manifest, by: str = "auto") -> Groups | None:
    """The groups of a data set; None where there are none.

    Args:
        manifest: the data set.
        by: `auto` looks for a column of groups, then at the names, then for several segments of a
            file; `none`; or a regular expression, searched for in each relative path: its capture
            group 1 is the group.

    Raises:
        UsageError: not a regular expression, one without a capture group, or one that is found in
            no path.
    """
    if by == "none":
        return None
    if by != "auto":
        return _by_pattern(manifest, by)
    named = {row: row.group for row in manifest.rows if row.group}
    if named:
        return Groups(named, "group", "")
    files = Counter(row.path for row in manifest.rows)
    several = max(files.values(), default=0) > 1
    # Segments of one file have one name, whatever their classes.
    names = {
        row: _name(manifest, row._replace(label=None) if several else row) for row in manifest.rows
    }
    for rule in _RULES:
        found = {row: key for row, name in names.items() if (key := rule.key(name))}
        sizes = Counter(found.values())
        enough = len(found) >= rule.share * len(names) and len(sizes) >= rule.groups
        if enough and _serves(found, manifest):
            row = next(row for row, key in found.items() if sizes[key] > 1)
            return Groups(found, rule.what, manifest.relative_path(row))
    return by_file(manifest)


def by_file(manifest: Manifest) -> Groups | None:
    """The segments of each file as a group; None where no file has several."""
    files = Counter(row.path for row in manifest.rows)
    if max(files.values(), default=0) < 2:
        return None
    return Groups({row: manifest.relative_path(row) for row in manifest.rows}, "recording", "")


def _by_pattern(manifest: Manifest, pattern: str) -> Groups:
    compiled = group_pattern(f"--group-by {pattern!r}", pattern, instead="; or give auto or none")
    found = {}
    for row in manifest.rows:
        match = compiled.search(manifest.relative_path(row))
        if match is not None and match[1]:
            found[row] = match[1]
    if not found:
        raise UsageError(
            f"--group-by {pattern!r} is found in no path, such as "
            f"{manifest.relative_path(manifest.rows[0])}."
        )
    return Groups(found, "group", "")


def _serves(found: dict[Row, str], manifest: Manifest) -> bool:
    """Whether some groups hold several clips, and most classes have more groups than one."""
    if max(Counter(found.values()).values()) < 2:
        return False
    groups: defaultdict[str | None, set[object]] = defaultdict(set)
    clips = Counter(row.label for row in manifest.rows)
    for row in manifest.rows:
        groups[row.label].add(found.get(row, row))
    several = [label for label, count in clips.items() if count > 1]
    return 2 * sum(len(groups[label]) > 1 for label in several) > len(several)


def _name(manifest: Manifest, row: Row) -> _Name:
    *folders, name = manifest.relative_path(row).split("/")
    if folders and name.lower() in FRAME_FOLDERS:
        name = folders.pop()
    stem = video_stem(name) or name
    label = row.label or ""
    ended = False
    if patterns := _spelt(label):
        # `waving_S03_02` in the class `waving`: the name says no more than the folder.
        stem = patterns[0].sub("", stem)
        shorter = patterns[1].sub("_", stem).rstrip("_")
        ended = shorter != stem
    return _Name([f for f in folders if f != label], shorter if ended else stem, label, ended)


# Not left to `re`, which keeps 512 and compiles all anew where there are more classes.
@functools.lru_cache(maxsize=1 << 14)
def _spelt(label: str) -> tuple[re.Pattern[str], re.Pattern[str]] | None:
    """A class at the beginning and at the end of a clip's name; None where it has no word."""
    words = [re.escape(word) for word in re.split(r"[\W_]+", label) if word]
    spelt = r"[\W_]*".join(words)
    if not spelt:
        return None
    begins = re.compile(rf"^(?:v_)?{spelt}[-_ ]+", re.I)
    return begins, re.compile(rf"[-_ ]+{spelt}[-_ ]*(?=\d*$)", re.I)


def _person(name: _Name) -> str | None:
    if match := _NTU.search(name.stem):
        return match[1]
    for text in (*name.folders, name.stem):
        for match in _PERSON.finditer(text):
            if match[2].lower() not in name.label.lower():
                return _key(match[1])
    for folder in name.folders:
        if _CODE_FOLDER.fullmatch(folder):
            return _key(folder)
    if match := _CODE.match(name.stem):
        return _key(match[1])
    inside = _CODE_INSIDE.search(name.stem)
    return _key(inside[1]) if inside and inside[1] != name.stem else None


def _session(name: _Name) -> str | None:
    for folder in name.folders:
        if match := _SESSION.search(folder) or _DATE.search(folder):
            return _key(match[1])
    for pattern in (_SESSION, _DATE):
        match = pattern.search(name.stem)
        # Alone, `recording_5` may count the recordings of a class.
        if match and match[1] != name.stem:
            return _key(match[1])
    return None


def _recording(name: _Name) -> str | None:
    """What a clip was cut from, filmed beside, or made of."""
    folder = "/".join(name.folders)
    if match := _UCF.fullmatch(name.stem) or _HMDB.fullmatch(name.stem):
        return f"{name.label}/{folder}/{match[1]}"
    for pattern in (_PART, _SHOT):
        if match := pattern.fullmatch(name.stem):
            return _within(name, match[1])
    match = _TIMES.fullmatch(name.stem)
    if match and float(match[3]) > float(match[2]) and re.search(r"\d", match[1]):
        return _within(name, match[1])
    if match := _YOUTUBE.fullmatch(name.stem):
        return match[1]
    match = _SOURCE.fullmatch(name.stem)
    if match and not _DATE.search(match[1]):  # phones write VID_20231105_141503
        return _key(match[1])
    rest = _COPY.sub("", _CAMERA.sub("", name.stem)).strip("-_ ")
    # An original beside its copies has no mark of its own.
    return f"{name.label}/{folder}/{rest}" if re.search(r"\d", rest) else None


def _within(name: _Name, source: str) -> str:
    """A source of the same name in another class is the same, unless the name is a mere number."""
    folder = "/".join(name.folders)
    return f"{name.label}/{folder}/{source}" if source.isdecimal() else f"{folder}/{source}"


def _key(text: str) -> str:
    """`Subject_01` and `subject1` are one."""
    plain = re.sub(r"[-_ ]", "", text).lower()
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def _word(name: _Name) -> str | None:
    """`anna_03`, `anna_waving`: who or where, and a number or the class."""
    match = _WORDS_AND_NUMBER.fullmatch(name.stem)
    if match is None or not (match[2] or name.ended):
        return None
    words = re.split(r"[-_ ]", match[1].lower())
    return None if _COUNTED.intersection(words) else " ".join(words)


class _Rule(NamedTuple):
    """What a group is, the share of the clips that must have one, the fewest groups, and how a name
    tells it."""

    what: str
    share: float
    groups: int
    key: Callable[[_Name], str | None]


_RULES = (
    _Rule("person", 0.5, 2, _person),
    _Rule("session", 0.5, 2, _session),
    _Rule("recording", 0.0, 2, _recording),
    _Rule("group", 0.9, 3, _word),
)


def members(manifest: Manifest, groups: Groups) -> Iterator[tuple[str, list[Row]]]:
    """(group, its rows) of a manifest; a row without a group is one of its own."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in manifest.rows:
        found[groups.group_of.get(row) or f"clip:{manifest.relative_path(row)}"].append(row)
    yield from found.items()
