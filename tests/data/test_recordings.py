from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from videorwkv.data.hold_out import hold_out
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row, make_manifest
from videorwkv.data.recordings import Groups, find_groups
from videorwkv.errors import UsageError

CLASSES = ("left", "right")


def held_out(names: Iterable[str], by: str = "auto", label: Callable[[str], str] | None = None
             ) -> Manifest:  # fmt: skip
    label = label or (lambda name: name.split("/")[0])
    rows = [Row(f"/data/{name}", label(name)) for name in names]
    return hold_out(make_manifest("folder", rows, root="/data"), 0.2, by)


def clips(name: str, groups: int = 8, each: int = 4) -> list[str]:
    """For every class, `groups` times `each` names; {g} and {k} are numbers, {c} the class."""
    return [
        f"{c}/" + name.format(g=g, k=k, c=c)
        for c in CLASSES
        for g in range(1, groups + 1)
        for k in range(1, each + 1)
    ]


@pytest.mark.parametrize(
    ("name", "key", "what"),
    [
        ("v_{c}_g{g:02d}_c{k:02d}.avi", r"\w+/v_\w+_g\d+", "recording"),
        ("person{g:02d}_{c}_d{k}_uncomp.avi", r"person\d+", "person"),
        ("subject-{g}_{k}.mp4", r"subject-\d+", "person"),
        ("{k}_Subject{g:02d}.mp4", r"Subject\d+", "person"),
        ("S{g:02d}-{c}-{k:02d}.mp4", r"S\d+", "person"),
        ("{c}_P{g}_{k}.mp4", r"P\d+", "person"),
        ("kitchen_{k}_P{g:02d}_x.mp4", r"P\d+", "person"),
        ("S001C00{k}P{g:03d}R001A001.avi", r"P\d+", "person"),
        ("anna{g}x_{k}.mp4", r"never", ""),
        ("a01_s{g:02d}_e{k:02d}_depth.avi", r"s\d+", "person"),
        ("April_{g}_{c}_u_nm_np1_ba_goo_{k}.avi", r"\w+/April_\d+", "recording"),
        ("session{g}_{k}.mp4", r"session\d+", "session"),
        ("{c} day {g} clip {k}.mp4", r"day \d+", "session"),
        ("2023-11-{g:02d}_kitchen_{k}.mp4", r"2023-11-\d+", "session"),
        ("202311{g:02d}_141503_{k}.mp4", r"202311\d+", "session"),
        ("match{g}_{k:04d}_{k:04d}5.mp4", r"match\d+", "recording"),
        ("aB3defghij{g}_0000{k}0_0000{k}9.mp4", r"aB3defghij\d", "recording"),
        ("aB3defghij{g}_0000{k}0.mp4", r"aB3defghij\d", "recording"),
        ("kitchen{g}_part{k}.mp4", r"kitchen\d+", "recording"),
        ("DSC0{g}00_clip{k}.mp4", r"DSC\d+", "recording"),
        ("video{g}_{k:05d}.mp4", r"video\d+", "recording"),
        ("{g:03d}_cam{k}.mp4", r"\w+/\d+", "recording"),
        ("{g:03d}_aug{k}.mp4", r"\w+/\d+", "recording"),
        ("{g:03d} - Copy ({k}).mp4", r"\w+/\d+", "recording"),
    ],
)
def test_names_that_belong_together(name: str, key: str, what: str) -> None:
    manifest = held_out(clips(name))
    note = manifest.split_notes[0]
    assert (f"clips of one {what} stay together" in note) is bool(what)
    if not what:
        assert "by hash of path" in note
        return
    sides = defaultdict(set)
    for row in manifest.rows:
        match = re.search(key, row.path.removeprefix("/data/"))
        assert match is not None
        sides[match[0]].add(row.split)
    assert all(len(splits) == 1 for splits in sides.values())
    for label in CLASSES:
        part = [row.split for row in manifest.rows if row.label == label]
        assert 0.1 < part.count("validation") / len(part) < 0.4
    assert manifest.digest != held_out(clips(name), "none").digest
    assert manifest.digest == held_out(reversed(clips(name))).digest


@pytest.mark.parametrize(
    "name",
    ["clip_{g:03d}{k}.mp4", "{g}{k}.mp4", "video_{g}{k}.mp4", "{c}_{g}{k}.mp4",
     "{c}_clip{g}{k}.mp4", "IMG_{g}{k}.MOV", "c{g}{k}.mp4", "s{g}{k}.mp4", "take{g}{k}.mp4",
     "recording_{g}{k}.mp4",
     "clip ({g}{k}).mp4", "subject1_{g}{k}.mp4", "VID_202311{g:02d}_1415{k:02d}.mp4",
     "clip_{g}_{k}.mp4", "frame{g}{k}", "{c} {g}{k}.mp4", "trial_{g}{k}.mp4",
     "seq{g}_0_{k}.avi", "clip_s{g}{k}.mp4", "{c}{g}_{k}.mp4"],
)  # fmt: skip
def test_numbers_that_count_clips_group_nothing(name: str) -> None:
    names = [n.replace("right/VID_2023", "right/VID_2022") for n in clips(name)]
    manifest = held_out(names)
    assert "by hash of path" in manifest.split_notes[0]
    assert manifest.digest == held_out(names, "none").digest


def test_persons_and_places_by_word() -> None:
    people = [f"{c}/{p}_{k}.mp4" for c in CLASSES for p in ("anna", "ben", "cleo") for k in "1234"]
    assert "(3 groups, 1 in validation, by names such as left/anna_1.mp4)" in str(
        held_out(people).split_notes
    )
    for name in ("{c}/{p}_lee_{k}.mp4", "{c}/{p}_{c}{k}.mp4"):
        people = [
            name.format(c=c, p=p, k=k) for c in CLASSES for p in ("an", "bo", "cy") for k in "12"
        ]
        assert "(3 groups, 1 in validation" in str(held_out(people).split_notes)
    people = [f"{c}/{p}_{c}.avi" for c in CLASSES for p in ("daria", "denis", "eli", "ido")]
    assert "(4 groups, 1 in validation" in str(held_out(people).split_notes)
    words = [f"{c}/{p}.avi" for c in CLASSES for p in ("home", "garden", "street", "shop")]
    assert "by hash of path" in held_out(words).split_notes[0]
    cameras = [f"{c}/{p}_{k}.mp4" for c in CLASSES for p in ("IMG", "MOV", "DSC") for k in "1234"]
    assert "by hash of path" in held_out(cameras).split_notes[0]


def test_folders_of_persons_in_a_list() -> None:
    names = [f"S{s:02d}/{c}_{k}.mp4" for s in range(1, 6) for c in CLASSES for k in range(4)]
    manifest = held_out(names, label=lambda name: name.split("/")[1].split("_")[0])
    assert "clips of one person stay together (5 persons, 1 in validation" in str(
        manifest.split_notes
    )


def test_a_class_called_person_is_no_person() -> None:
    names = [f"{c}/{c}_{k}.mp4" for c in ("person", "car") for k in range(10)]
    names += [f"{c}/person_{k}.mp4" for c in ("person",) for k in range(10, 20)]
    assert "by hash of path" in held_out(names).split_notes[0]


def test_a_column_names_the_groups(tmp_path: Path) -> None:
    rows = [f"{c}{k}.mp4,{c},{'abcd'[k % 4]}" for c in CLASSES for k in range(8)]
    path = tmp_path / "t.csv"
    path.write_text("path,label,patient\n" + "\n".join(rows))
    manifest = load_manifest(path)
    sides = {(row.group, row.split) for row in manifest.rows}
    assert len(sides) == len({group for group, _ in sides}) == 4
    assert "clips of one group stay together (4 groups, 1 in validation)" in manifest.summary()
    assert load_manifest(path, group_by="none").digest != manifest.digest


def test_two_persons_and_a_class_of_one() -> None:
    names = [f"{c}/subject{s}_{k}.mp4" for c in CLASSES for s in (1, 2) for k in range(4)]
    manifest = held_out([*names, "up/subject1_1.mp4", "up/subject1_2.mp4"])
    assert {row.split for row in manifest.rows if "subject1" in row.path} == {"train"}
    assert "class 'up' has clips of one person alone: they train" in manifest.summary()


def test_a_group_by_regular_expression() -> None:
    names = clips("{g}-{k}.mp4")
    manifest = held_out(names, r"(\d+)-")
    assert "clips of one group stay together (8 groups, 1 in validation)" in manifest.summary()
    with pytest.raises(UsageError, match="needs a capture group"):
        held_out(names, r"\d+-")
    with pytest.raises(UsageError, match=r"is found in no path, such as left/1-1\.mp4"):
        held_out(names, r"(\d+)x")
    with pytest.raises(UsageError, match="unterminated"):
        held_out(names, "(")
    # Two groups, one of which has all clips of a class.
    manifest = held_out(names, "(left|right)")
    assert "every group has all clips of some class" in manifest.summary()


def test_group_by_needs_a_data_set_without_splits(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,label,split\na.mp4,x,train\n")
    with pytest.raises(UsageError, match="names its splits, which are kept"):
        load_manifest(path, group_by="(a)")
    with pytest.raises(UsageError, match="--group-by none: motion is generated"):
        load_manifest("motion", group_by="none")


def test_groups_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group that is held out would otherwise make a set of all of them again."""

    class Names(dict[Row, str]):
        asked = 0

        def values(self) -> Any:
            Names.asked += 1
            return super().values()

    def found(manifest: Manifest, by: str) -> Groups:
        return Groups(Names({row: row.path[:-5] for row in manifest.rows}), "recording", "a")

    monkeypatch.setattr("videorwkv.data.hold_out.find_groups", found)
    manifest = held_out(clips("{g:03d}_{k}.mp4", groups=40))
    assert "(80 recordings, 16 in validation" in manifest.summary()
    assert Names.asked == 1


def test_patterns_of_many_classes_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = re.compile
    names = [f"gesture {n}x/gesture {n}x_{k}.mp4" for k in range(4) for n in range(600)]
    monkeypatch.setattr(re, "compile", lambda *given: asked.append(given) or original(*given))
    monkeypatch.setattr(re, "sub", lambda *given, **_: pytest.fail(f"compiled again: {given}"))
    find_groups(
        make_manifest("folder", [Row(f"/data/{n}", n.split("/")[0]) for n in names], root="/data")
    )
    assert 0 < len(asked) <= 2 * 600
