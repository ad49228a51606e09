from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from videorwkv.cli.main import main


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.json").write_text("{}")
    (folder / "index.html").write_text("<p>page")
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open; the server ends at once, as by Ctrl-C."""
    import webbrowser

    from videorwkv.web.server import Server

    addresses: list[str] = []

    def run(self: Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "run", run)
    monkeypatch.setattr(webbrowser, "open", lambda url: addresses.append(url) or False)
    return addresses


def test_serves_a_site_and_opens_the_browser(
    site: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(site), "--port", "0"]) == 0
    printed = capsys.readouterr().out
    (address,) = opened
    assert f"Serving {address} to this machine; Ctrl-C ends it." in printed
    assert "no browser could be opened" in printed
    assert printed.endswith("Ended.\n")
    assert main(["serve", str(site), "--port", "0", "--no-browser"]) == 0
    assert len(opened) == 1


def test_a_run_is_exported_once(
    tiny_run: Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from videorwkv.web import site

    made: list[Path] = []

    def export_site(run: Any, folder: Path, *, runtime: str | None) -> None:
        made.append(folder)
        folder.mkdir(exist_ok=True)

    monkeypatch.setattr(site, "export_site", export_site)
    monkeypatch.setattr(site, "is_current", lambda folder, run: bool(made))
    assert main(["serve", str(tiny_run), "--port", "0", "--no-browser"]) == 0
    assert main(["serve", str(tiny_run), "--port", "0", "--no-browser"]) == 0
    assert [folder.parent for folder in made] == [tiny_run]
    assert capsys.readouterr().out.count("Exporting to") == 1


def test_wrong_use(
    site: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert main(["serve", str(site), "--port", "99999"]) == 2
    assert "--port 99999: " in capsys.readouterr().err
    wanted = {
        "--batch-size=2": "--batch-size has no effect on a page",
        "--tube-mask=0.5": "--tube-mask has no effect on a page",
        "--calibrate=motion": "--calibrate has no effect on a page",
        "--precision=int8": "'int8' does not run in browsers",
        "--runtime=none.tgz": "--runtime none.tgz: No such file",
    }
    for option, text in wanted.items():
        assert main(["export", str(tiny_run), "--to", "web", option]) == 2
        assert text in capsys.readouterr().err
    assert main(["export", str(tiny_run), "--to", "wbe"]) == 2
    assert "Unknown target 'wbe'. Did you mean 'web'?" in capsys.readouterr().err
    assert main(["export", str(tiny_run), "--to", "onnx", "--runtime=a.tgz"]) == 2
    assert "--runtime needs --to web" in capsys.readouterr().err
