"""What is in shards: found by reading the headers of a tar, or in the index beside the shards.

`data prepare --shards` writes the index, `shards.json`, so that nothing has to be looked through
and what a shard has lost is known.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videorwkv.data.manifest import SPLIT_NAMES
from videorwkv.data.shards import Shard, ShardClip
from videorwkv.data.shards.members import Group, group_members, split_name
from videorwkv.errors import ManifestError
from videorwkv.utils.values import brief, parse_json, unsealed

INDEX = "shards.json"
VERSION = 1
# Of a member that tells the label.
MOST_ABOUT = 1 << 20
# Keys of a `.json` that may hold the label.
LABEL_KEYS = ("label", "class", "class_name", "label_name", "cls")


class Index(NamedTuple):
    """What `shards.json` says.

    Args:
        shards: in order.
        kind: of the data set that they were made from, such as `jester`.
        labels: all classes of that data set, sorted; empty where the clips alone name them.
        flips: label -> label of the flipped clip; None where it is not known.
    """

    shards: tuple[Shard, ...]
    kind: str
    labels: tuple[str, ...]
    flips: dict[str, str] | None


def split_of(name: str) -> str:
    """`data-val-0003.tar` -> `validation`; empty where no word of it names a split."""
    words = Path(name).stem.lower().replace("_", "-").replace(".", "-").split("-")
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else ""


def look_through(file: str | Path, place: str, split: str, *, most: int | None = None) -> Shard:
    """The clips of a tar, by its headers.

    Args:
        file: where it lies on disk.
        place: what it is called.
        split: of its clips.
        most: members that are looked at; None: all.

    Raises:
        ManifestError: it is no tar, or a clip in it has no label, or two have one name.
    """
    members: dict[str, tuple[int, int]] = {}  # name -> from where to where, header included
    texts: dict[str, bytes] = {}
    try:
        size = os.path.getsize(file)
        with tarfile.open(file, "r:") as tar:
            problem = _read_headers(tar, size, members, texts, most)
    except (OSError, tarfile.TarError) as error:
        compressed = ". Compressed tars are not read by index: unpack them" * (
            not place.endswith(".tar")
        )
        raise ManifestError(f"{place}: no tar that can be read ({error}){compressed}.") from error
    clips: list[ShardClip] = []
    seen: set[str] = set()
    groups = list(group_members(members))
    for place_in, group in enumerate(groups):
        if group.key in seen:
            raise ManifestError(f"{place}: two clips are called {group.key}.")
        seen.add(group.key)
        names = [*group.frames, *group.others.values(), *filter(None, [group.video])]
        start = min(members[name][0] for name in names)
        stop = max(members[name][1] for name in names)
        if problem and place_in + 1 == len(groups) and group.video is None:
            # What follows is lost: its video, or more of its frames.
            stop = size + 1
        elif group.video is None and not group.frames:
            continue
        label, owner = _label(group, texts, place)
        clips.append(ShardClip(group.name, label, owner, start, stop))
    if problem:
        problem = f"{problem}; {len(clips)} clips begin before that"
    return Shard(
        place=place, size=size, split=split, clips=tuple(clips), problem=problem, present=size
    )


def _read_headers(
    tar: tarfile.TarFile,
    size: int,
    members: dict[str, tuple[int, int]],
    texts: dict[str, bytes],
    most: int | None,
) -> str:
    """Fills `members` and `texts`; what is wrong with the tar, or nothing."""
    end = 0
    try:
        while (member := tar.next()) is not None:
            blocks = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            end = member.offset_data + blocks
            if member.isreg() and not member.issparse():
                if member.name in members:
                    raise ManifestError(f"{tar.name!s}: two members are called {member.name}.")
                members[member.name] = member.offset, end
                ending = split_name(member.name)[1]
                if ending in ("cls", "json") and member.size <= MOST_ABOUT and end <= size:
                    texts[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
            tar.members.clear()  # type: ignore[attr-defined]
            if most is not None and len(members) >= most:
                return ""
    except tarfile.ReadError:
        return f"cut short after {size:,} bytes"
    # A whole tar ends in empty blocks; without them it may be cut between two members.
    tar.fileobj.seek(end)
    rest = tar.fileobj.read(tarfile.BLOCKSIZE)
    if len(rest) < tarfile.BLOCKSIZE:
        return f"cut short after {size:,} bytes"
    return "" if not any(rest) else f"damaged at byte {end:,}"


def _label(group: Group, texts: dict[str, bytes], place: str) -> tuple[str | None, str]:
    """Label and group of a clip; a `.json` with a name counts more than the number in a `.cls`."""
    where = f"{place}, {group.key}"
    about: dict[str, Any] = {}
    if (name := group.others.get("json")) in texts:
        try:
            about = parse_json(texts[name])
        except ValueError as error:
            raise ManifestError(f"{where}.json: {error}.") from error
        if not isinstance(about, dict):
            raise ManifestError(f"{where}.json: got {brief(about)}; wanted an object, {{...}}.")
    found = next((about[key] for key in LABEL_KEYS if about.get(key) is not None), None)
    if found is None and (name := group.others.get("cls")) in texts:
        found = texts[name].decode(errors="replace").strip() or None
    if found is not None and not (type(found) is int or (isinstance(found, str) and found.strip())):
        raise ManifestError(f"{where}: label {brief(found)}; one name or number a clip is read.")
    owner = about.get("group")
    return (None if found is None else str(found).strip()), owner if isinstance(owner, str) else ""


def read_index(content: bytes, folder: str, where: str) -> Index:
    """What `shards.json` says of the shards beside it.

    Args:
        content: of the file.
        folder: path or address of its folder.
        where: the file, for messages.

    Raises:
        ManifestError: it is damaged, or of another version.
    """
    try:
        values = unsealed(parse_json(content))
        if values["version"] != VERSION:
            raise ValueError(f"version {brief(values['version'])}; version {VERSION} is read")
        labels, flips = values["labels"], values["flips"]
        shards = tuple(_shard(folder, shard, labels) for shard in values["shards"])
        if not isinstance(values["kind"], str) or not (flips is None or isinstance(flips, dict)):
            raise ValueError("kind or flips are damaged")
        if not all(isinstance(label, str) for label in labels):
            raise ValueError("a label is no text")
        return Index(shards, values["kind"], tuple(labels), flips)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{where}: damaged ({error}). Delete it to look through the shards themselves, or make "
            "them anew."
        ) from error


def _shard(folder: str, values: dict[str, Any], labels: Sequence[str]) -> Shard:
    name, size = values["name"], values["size"]
    if not isinstance(name, str) or "/" in name or "\\" in name or name in ("", ".", ".."):
        raise ValueError(f"a shard is called {brief(name)}")
    clips = []
    last = 0
    for clip, label, group, start, stop, place in values["clips"]:
        whole = all(type(n) is int for n in (start, stop, place)) and last <= start < stop <= size
        if not whole or not isinstance(clip, str) or not isinstance(group, str):
            raise ValueError(f"{name}: clip {brief(clip)} from {brief(start)} to {brief(stop)}")
        last = stop
        known = None if label is None else labels[label]
        clips.append(ShardClip(clip, known, group, start, stop, place))
    where = f"{folder.rstrip('/')}/{name}" if "://" in folder else os.path.join(folder, name)
    return Shard(place=where, size=size, split=str(values["split"]), clips=tuple(clips))


def index_values(index: Index) -> dict[str, Any]:
    """The way back from `read_index`, to be sealed and written."""
    number = {label: place for place, label in enumerate(index.labels)}
    return {
        "version": VERSION,
        "kind": index.kind,
        "labels": list(index.labels),
        "flips": index.flips,
        "shards": [
            {
                "name": os.path.basename(shard.place),
                "size": shard.size,
                "split": shard.split,
                "clips": [
                    [name, None if label is None else number[label], group, start, stop, at]
                    for name, label, group, start, stop, at in shard.clips
                ],
            }
            for shard in index.shards
        ],
    }
