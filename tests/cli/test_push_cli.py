"""`videorwkv push`, and `hf:OWNER/NAME` in the place of a run, as a user at the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hub_server
import pytest
import tiny
from commands import fails

from videorwkv.cli.main import main


def test_look_first(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "--out", str(tmp_path / "shared"), "--license", "mit"]) == 0
    said = capsys.readouterr().out
    assert "README.md, the model card" in said
    assert "--data-licence was not given" in said
    assert "--licence was not" not in said
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    capsys.readouterr()
    shown = []
    for model in (run, tmp_path / "shared", tmp_path / "shared" / "model.safetensors"):
        assert main(["predict", str(model), str(clip), "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0]["labels"]
    assert shown.count(shown[0]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the repository, OWNER/NAME, or a folder with --out"),
        (("--out", "x", "--private"), "--private needs OWNER/NAME"),
        (("waving",), "'waving' is no repository of the Hub; OWNER/NAME is wanted"),
        (("waving", "--out", "x"), "'waving' is no repository of the Hub"),
        (("me/waving@v1",), "name the branch with --branch v1"),
        (("--out", "x", "--licence", "My Own"), "short names are wanted"),
    ],
)
def test_wrong_use(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, line = fails(capsys, "push", run, *arguments)
    assert code == 2
    assert message in line
    assert not Path("x").exists()


@pytest.mark.parametrize("name", ["hf:", "hf:me", "hf:me/a/b", "hf://me/a"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "stream", "export", "train"])
def test_names_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    words = {
        "predict": [name, clip], "evaluate": [name, tiny.MOTION], "stream": [name, clip],
        "export": [name, "--to=onnx"], "train": [tiny.MOTION, "--init", name, "--out=x"],
    }[command]  # fmt: skip
    code, line = fails(capsys, command, *words)
    assert code == 2
    assert "hf:owner/name is wanted" in line


def test_a_push_and_every_command_that_takes_a_run(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is absent: the extra `hub`")
    tiny.write_clip(tmp_path / "clip.mp4")
    with hub_server.serving() as hub:
        env = {
            **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token,
            "HF_HOME": str(tmp_path / "hf"),
        }  # fmt: skip

        def call(*words: str | Path, **more: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "videorwkv", *map(str, words)],
                cwd=tmp_path, env={**env, **more}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        said = call("push", run, "me/motion", "--licence=mit", "--branch=v1")
        assert "videorwkv predict hf:me/motion@v1 CLIP.mp4" in said
        name = "hf:me/motion@v1"
        own = json.loads(call("predict", run, "clip.mp4", "--json"))
        assert json.loads(call("predict", name, "clip.mp4", "--json")) == own
        offline = call("predict", name, "clip.mp4", "--json", HF_HUB_OFFLINE="1")
        assert json.loads(offline) == own
        # No result goes into the cache.
        said = call("evaluate", name, tiny.MOTION, "--workers=0")
        results = Path("runs/me--motion@v1/evaluation-validation")
        assert str(results) in said
        assert (tmp_path / results / "evaluation.json").is_file()
        assert call("stream", name, "clip.mp4", "--json")
        train = ["train", tiny.MOTION, "--init", name, "--out=tuned", "--steps=1", "--workers=0"]
        call(*train, "--no-baselines", "--quiet")
    config = json.loads((tmp_path / "tuned" / "config.json").read_text(encoding="utf-8"))
    assert config["init"]["source"] == name
    assert len(config["init"]["classes"]) == 8
