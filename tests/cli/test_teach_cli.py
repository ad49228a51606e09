from __future__ import annotations

from pathlib import Path

import pytest

from videorwkv.cli.main import main


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open; the server ends at once, as by Ctrl-C."""
    import webbrowser

    from videorwkv.web import teach

    addresses: list[str] = []

    def run(self: teach.TeachServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(teach.TeachServer, "run", run)
    monkeypatch.setattr(teach, "runtime_files", lambda archive: {})
    monkeypatch.setattr(teach, "installed", lambda name: True)
    monkeypatch.setattr(webbrowser, "open", lambda url: addresses.append(url) or True)
    return addresses


def test_serves_a_folder_that_it_makes(
    opened: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["teach", "my gestures", "--port", "0"]) == 0
    printed = capsys.readouterr().out
    (address,) = opened
    assert f"Serving {address} to this machine; Ctrl-C ends it." in printed
    assert printed.endswith("Ended.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["my gestures"]
    assert main(["teach", "my gestures", "--port", "0", "--no-browser"]) == 0
    assert len(opened) == 1
    assert address not in capsys.readouterr().out  # another key


def test_what_is_missing_is_said_before_anything_is_made(
    opened: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from videorwkv.web import teach

    folder = tmp_path / "clips"
    assert main(["teach", str(folder), "--steps", "0"]) == 2
    assert "--steps 0: wanted a number from 1 on" in capsys.readouterr().err
    monkeypatch.setattr(teach, "installed", lambda name: name != "onnxscript")
    assert main(["teach", str(folder)]) == 2
    assert "onnxscript" in (said := capsys.readouterr().err)
    assert "pip install 'videorwkv[onnx]'" in said
    assert not folder.exists()
    monkeypatch.setattr(teach, "installed", lambda name: True)
    assert main(["teach", str(folder), "--port", "99999"]) == 2
    assert "--port 99999" in capsys.readouterr().err
