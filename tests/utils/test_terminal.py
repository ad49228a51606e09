from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
import tiny
from rich.table import Table

from videorwkv.cli.main import main
from videorwkv.utils.files import write_csv
from videorwkv.utils.progress import make_console
from videorwkv.utils.terminal import Plain, printable, safe_console

# Clears the screen, sets the title, moves the line, rings, turns the direction: 7 bit and 8 bit.
NAMES = ["\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "back\rover", "a\x08b", "\x9b2J", "\x7f",
         "\u202efdp.exe", "\u2066x", "nul\x00"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_a_terminal_would_obey_is_written_out(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert "\\u" in shown
    assert printable(shown) == shown
    stream = io.StringIO()
    print(name, file=Plain(stream))
    assert stream.getvalue() == f"{shown}\n"


def test_what_is_no_command_stays() -> None:
    text = "Ü\t…\n日本 \U0001f600 'x'"
    assert printable(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_consoles_obey_their_own_colours_alone(name: str) -> None:
    stream = io.StringIO()
    console = safe_console(file=stream, force_terminal=True, width=60)
    table = Table("video", "label")
    table.add_row(name, f"[red]x[/red] {name}")
    console.print(table)
    console.print(name, markup=False)
    text = stream.getvalue()
    assert "\x1b[31m" in text  # the colour that was asked for
    assert name not in text
    assert all(char == "\x1b" or char == "\n" or char.isprintable() for char in text)


def test_messages_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", Plain(stream))
    make_console(force_terminal=True).print("[red]a[/red] \x1b[2J", highlight=False)
    assert "\x1b[31m" in stream.getvalue()
    assert "\\u001b[2J" in stream.getvalue()


def test_commands(tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip = tiny.write_clip(tmp_path / "\x1b[2Jclip\r.mp4")
    (tmp_path / "\x1b]0;no\x07.mp4").write_bytes(b"no video")
    for more in ([], ["--json"]):
        assert main(["predict", str(tiny_run), str(tmp_path), "--device", "cpu", *more]) == 1
        text = "".join(capfd.readouterr())
        assert "clip" in text
        assert not {"\x1b", "\r", "\x07"} & set(text)
    assert main(["train", str(clip) + "\x1b[0m", "--out", str(tmp_path / "x")]) == 2
    assert "\x1b" not in "".join(capfd.readouterr())
    assert not isinstance(sys.stdout, Plain)


@pytest.mark.parametrize("cell", ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "=cmd|' /C calc'!A0"])
def test_no_cell_is_a_formula(tmp_path: Path, cell: str) -> None:
    for is_read in (True, False):
        write_csv(tmp_path / "x.csv", [["path", "score"], [cell, -0.5]], is_read=is_read)
        with (tmp_path / "x.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert rows[1] == [f"'{cell}" if is_read else cell, "-0.5"]


def test_numbers_are_numbers(tmp_path: Path) -> None:
    cells = ["-1", "+2.50", "-1e-05", "1", ""]
    write_csv(tmp_path / "x.csv", [cells])
    assert (tmp_path / "x.csv").read_text().strip() == ",".join(cells)
