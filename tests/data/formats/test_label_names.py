from __future__ import annotations

from pathlib import Path

import disk
import pytest

from videorwkv.data.formats.label_names import read_label_names
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError

ZERO = {0: "left", 1: "right", 2: "look up"}
ONE = {1: "left", 2: "right", 3: "look up"}


@pytest.mark.parametrize(
    ("name", "text", "wanted", "numbered"),
    [
        ("n.txt", "left\nright\nlook up\n", ZERO, False),
        ("n.txt", "\ufeffleft\r\nright\r\nlook up\r\n\r\n", ZERO, False),
        ("n.txt", "labels\nleft\nright\nlook up\n", ZERO, False),
        ("n.csv", "name\nleft\nright\nlook up\n", ZERO, False),
        ("n.json", '["left", "right", "look up"]', ZERO, False),
        ("classInd.txt", "1 left\n2 right\n3 look up\n", ONE, True),
        ("n.txt", "\ufeff1 left\r\n2 right\r\n3 look up\r\n", ONE, True),
        ("n.txt", "3 look up\n1 left\n2 right\n", ONE, True),
        ("n.txt", "001\tleft\n002\tright\n003\tlook up\n", ONE, True),
        ("n.txt", "left 0\nright 1\nlook up 2\n", ZERO, True),
        ("n.txt", "0: left\n1: right\n2: look up\n", ZERO, True),
        ("n.txt", "left: 0\nright: 1\nlook up: 2\n", ZERO, True),
        ("n.txt", "names:\n  0: left\n  1: right\n  2: 'look up'\n", ZERO, True),
        ("n.txt", "id name\n1 left\n2 right\n3 look up\n", ONE, True),
        ("n.csv", "id,name\n0,left\n1,right\n2,look up\n", ZERO, True),
        ("n.csv", "Class Name;Class_ID\nleft;0\nright;1\nlook up;2\n", ZERO, True),
        ("n.csv", "right,1\nleft,0\nlook up,2\n", ZERO, True),
        ("n.csv", ",name\n0,left\n1,right\n2,look up\n", ZERO, True),
        ("n.csv", "id,name,parent,count\n1,left,a,7\n2,right,b,7\n3,look up,c,9\n", ONE, True),
        ("n.csv", "id,name\n1.0,left\n2.0,right\n3.0,look up\n", ONE, True),
        ("n.csv", '0,"left, slowly"\n7,"right, slowly"\n',
         {0: "left, slowly", 7: "right, slowly"}, True),
        ("n.json", '{"0": "left", "2": "look up", "1": "right"}', ZERO, True),
        ("n.json", '{"left": 1, "right": 2, "look up": 3}', ONE, True),
        ("n.json", '{"left": "0", "right": "1", "look up": "2"}', ZERO, True),
        ("n.json", '{"id2label": {"0": "left", "1": "right", "2": "look up"}, "x": 1}', ZERO, True),
        ("n.json", '[{"id": 1, "name": "left"}, {"id": 2, "name": "right"}, '
         '{"id": 3, "name": "look up"}]', ONE, True),
        ("n.yaml", "names:\n- left\n- right\n- look up\n", ZERO, False),
        ("n.txt", '"left"\n"right"\n"look up"\n', ZERO, False),
        ("n.txt", "1) left\n2) right\n3) look up\n", ONE, True),
        ("n.txt", "# id name\n1 left\n2 right\n3 look up\n", ONE, True),
        ("n.pbtxt", 'item {\n  name: "left"\n  id: 1\n}\nitem { id: 2 name: "right" }\n'
         'item {\n id: 3\n name: "look up"\n}\n', ONE, True),
        # Names that look like maps at first.
        ("n.txt", "fist\n1 finger\n2 fingers\n3 fingers\n",
         {0: "fist", 1: "1 finger", 2: "2 fingers", 3: "3 fingers"}, False),
        ("n.txt", "room 7\nzone 12\n", {0: "room 7", 1: "zone 12"}, False),
        ("n.txt", "kick 1\nkick 2\npunch 1\n", {0: "kick 1", 1: "kick 2", 2: "punch 1"}, False),
        ("n.txt", "left, slowly\nright, slowly\n", {0: "left, slowly", 1: "right, slowly"}, False),
        ("n.txt", "[something] falls\nname\n", {0: "[something] falls", 1: "name"}, False),
    ],
)  # fmt: skip
def test_every_form(
    name: str, text: str, wanted: dict[int, str], numbered: bool, tmp_path: Path
) -> None:
    names = read_label_names(disk.text(tmp_path / name, text))
    assert (dict(names.by_number), names.numbered) == (wanted, numbered)
    assert names.names == tuple(sorted(wanted.values()))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.txt", "", "no names in it; wanted one name per line"),
        ("n.csv", "name\n", "no names below its header"),
        ("n.txt", "a\n\nb\n", r"n\.txt:2: an empty line between names"),
        ("n.txt", "a\nb\na\n", r"n\.txt:3: 'a' is already in .*n\.txt:1"),
        ("n.txt", "1 a\n2 b\n3 c\n4 d\n4 e\n", r"n\.txt:5: number 4 is 'e' here and 'd' before"),
        ("n.csv", "1,a\n2,a\n", r"n\.csv:2: 'a' is already in .*n\.csv:1"),
        ("n.csv", "id,name\n-1,none\n0,a\n", r"n\.csv:2: number -1"),
        ("n.csv", "id,name\n0,\n1,a\n", r"n\.csv:2: number 0 has no name"),
        ("n.csv", "id,name\na1,left\na2,right\n", "no column below it has whole numbers"),
        ("n.csv", "0,1\n1,2\n", "which column has the numbers"),
        ("n.txt", "1 a\n2 b\nc\n4 d\n", r"n\.txt:3: 'c' has no number before its name"),
        ("n.pbtxt", 'item {\n name: "a"\n}\n', "item 1 has no id or no name"),
        ("n.json", '{"0": "a"', r"n\.json:1: not JSON"),
        ("n.json", '{"0": "a", "0": "b"}', r"pair 2: '0' is already in"),
        ("n.json", '{"0": "1", "1": "2"}', "numbers on both sides"),
        ("n.json", '{"a": "b"}', "wanted names by number"),
        ("n.json", "[1, 2]", "wanted names by number"),
        ("n.json", "7", "wanted names by number"),
        ("n.json", "[]", "wanted names by number"),
        ("n.json", "{}", "no names in it"),
    ],
)
def test_errors_say_what_is_wrong(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        read_label_names(disk.text(tmp_path / name, text))


def labels_of(path: Path, names: Path) -> list[str | None]:
    return [row.label for row in load_manifest(path, label_names=names, validation_share=0).rows]


def test_numbers_go_by_the_number_beside_the_name(tmp_path: Path) -> None:
    disk.video(tmp_path / "a.mp4", tmp_path / "b.mp4")
    clips = disk.text(tmp_path / "first.txt", "a.mp4 1\nb.mp4 3\n")
    names = disk.text(tmp_path / "classInd.txt", "1 left\n2 right\n3 up\n")
    assert labels_of(clips, names) == ["left", "up"]
    manifest = load_manifest(clips, label_names=names)
    assert manifest.labels == ("left", "right", "up")
    assert "label 1 is 'left': numbers are counted as classInd.txt numbers" in manifest.summary()
    assert load_manifest(disk.text(tmp_path / "t.tsv", "path\tlabel\na.mp4\t2\n"),
                         label_names=names).rows[0].label == "right"  # fmt: skip
    disk.text(clips, "a.mp4 0\nb.mp4 2\n")
    with pytest.raises(ManifestError, match=r"first\.txt:1: label 0 has no name .* 1 to 3 beside"):
        load_manifest(clips, label_names=names)


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_labels_counted_from_one(suffix: str, tmp_path: Path) -> None:
    rows = [("a.mp4", 1), ("b.mp4", 2), ("c.mp4", 3)]
    disk.video(*(tmp_path / name for name, _ in rows))
    names = disk.text(tmp_path / "names.txt", "left\nright\nup\n")

    def clips(pairs: list[tuple[str, int]]) -> Path:
        header, between = ("path,label\n", ",") if suffix == ".csv" else ("", " ")
        lines = "".join(f"{name}{between}{label}\n" for name, label in pairs)
        return disk.text(tmp_path / f"clips{suffix}", header + lines)

    assert labels_of(clips(rows), names) == ["left", "right", "up"]
    assert (
        "from 1, as they are 1 to 3 for 3 names"
        in load_manifest(clips(rows), label_names=names).summary()
    )
    # 1 and 2 of three names: from 0 and from 1 are both possible.
    with pytest.raises(ManifestError, match=r"1 to 2, and .* has 3 names: they may count from 0"):
        load_manifest(clips(rows[:2]), label_names=names)
    assert labels_of(clips([("a.mp4", 0), ("b.mp4", 2)]), names) == ["left", "up"]


def test_folders_tell_what_labels_count_from(tmp_path: Path) -> None:
    for name in ("ApplyLipstick", "archery"):
        disk.video(tmp_path / name / "a.mp4")
    plain = disk.text(tmp_path / "n.txt", "Apply Lipstick\nArchery\nBaby Crawling\n")
    numbered = disk.text(tmp_path / "i.txt", "1 Apply Lipstick\n2 Archery\n3 Baby Crawling\n")
    from_one = disk.text(tmp_path / "a.txt", "ApplyLipstick/a.mp4 1\narchery/a.mp4 2\n")
    for names in (plain, numbered):
        assert labels_of(from_one, names) == ["Apply Lipstick", "Archery"]
    part = disk.text(tmp_path / "b.txt", "archery/a.mp4 1\n")  # from 0
    assert labels_of(part, plain) == ["Archery"]
    with pytest.raises(ManifestError, match=r"label 1 is 'Apply Lipstick' by .*, but its clip is"):
        load_manifest(part, label_names=numbered)


@pytest.mark.parametrize("header", ["id,name", "name,id", "Index,Label"])
def test_a_list_of_names_in_place_of_clips_says_where_it_belongs(
    tmp_path: Path, header: str
) -> None:
    (tmp_path / "labels.csv").write_text(f"{header}\n0,left\n1,right\n")
    with pytest.raises(ManifestError, match="beside the list of the clips, with --label-names"):
        load_manifest(tmp_path / "labels.csv")
