"""Data sets of the Hub, through a stand-in for it, in processes of their own: huggingface_hub reads
its settings when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hub_server
import pytest
import tiny

NAME = "datasets/me/clips"
LOAD = """
import json, sys, videorwkv
from videorwkv.errors import VideoRWKVError
try:
    data = videorwkv.load_manifest(sys.argv[1])
    opened = [data.open(row).read_all().frames_THWC.shape[0] for row in data.rows]
except VideoRWKVError as error:
    print(json.dumps([type(error).__name__, str(error)]))
else:
    rows = [(data.relative_path(r), r.label, r.split) for r in data.rows]
    print(json.dumps([rows, opened, list(data.notes), data.digest]))
"""
METADATA = "file_name,label\ntrain/a.mp4,wave\ntrain/B.MP4,sit\ntest/c.mp4,wave\n"
ROWS = [["train/a.mp4", "wave", "train"], ["train/B.MP4", "sit", "train"],
        ["test/c.mp4", "wave", "test"]]  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[hub_server.Hub]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is absent: the extra `hub`")
    clip = tiny.write_clip(tmp_path / "clip.mp4", frames=4).read_bytes()
    with hub_server.serving() as hub:
        hub.make(NAME)
        hub.clip = clip  # type: ignore[attr-defined]
        yield hub


@pytest.fixture
def call(hub: hub_server.Hub, tmp_path: Path) -> Callable[..., Any]:
    def run(*words: str, code: str = LOAD, **more: str) -> Any:
        env = {
            **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if code == LOAD else done.stdout

    return run


def test_a_data_set_and_its_cache(
    hub: hub_server.Hub, call: Callable[..., Any], tmp_path: Path
) -> None:
    clip = hub.clip  # type: ignore[attr-defined]
    files = {f"data/{path}": clip for path, _, _ in ROWS}
    files |= {"data/metadata.csv": METADATA.encode(), "README.md": b"# Clips\n"}
    commit = hub.put(NAME, {**files, "clips.py": b"raise SystemExit(3)", "all.zip": b"PK"})
    rows, frames, notes, digest = call("hf:me/clips")
    assert rows == ROWS
    assert frames == [4, 4, 4]
    assert notes[0].startswith(f"hf:me/clips at commit {commit}, in ")
    asked = " ".join(hub.asked)
    assert "metadata.csv" in asked
    assert not any(name in asked for name in ("clips.py", "all.zip", "README.md"))

    count = len(hub.asked)
    assert call("hf:me/clips", HF_HUB_OFFLINE="1")[:2] == [rows, frames]
    assert len(hub.asked) == count
    # Another commit by its name, and the branch's newest again.
    newer = hub.put(NAME, {"data/metadata.csv": METADATA.replace("sit", "stand").encode()})
    again = call(f"hf:me/clips@{commit}")
    assert (again[0], again[3]) == (rows, digest)
    assert call("hf:me/clips")[0][1] == ["train/B.MP4", "stand", "train"]
    assert newer in call("hf:me/clips", HF_HUB_OFFLINE="1")[2][0]

    # A cache that lost a clip is not a smaller data set.
    next((tmp_path / "hf").rglob(f"snapshots/{newer}/data/test/c.mp4")).unlink()
    kind, message = call("hf:me/clips", HF_HUB_OFFLINE="1")
    assert kind == "CheckpointError"
    assert "can't be reached. The cache does not have all of it either" in message

    train = ["train", "hf:me/clips", *tiny.OPTIONS, "--steps=1", "--quiet", "--no-baselines"]
    code = f"import sys; from videorwkv.cli.main import main; sys.exit(main({train!r}))"
    assert call(code=code).startswith("runs/me--clips-lcr_nano: 1 of 1 steps")


def test_what_can_not_be_had(hub: hub_server.Hub, call: Callable[..., Any]) -> None:
    kind, message = call("hf:me/other")
    assert kind == "UsageError"
    assert "knows no such data set" in message
    kind, message = call("hf:me/clips@v9")
    assert (kind, f"{hub.endpoint}/datasets/me/clips/tree/main" in message) == ("UsageError", True)
    hub.put(NAME, {"data/train-00000.parquet": b"PAR1"})
    kind, message = call("hf:me/clips")
    assert kind == "ManifestError"
    assert "parquet" in message
    kind, message = call("hf:me")
    assert (kind, "hf:owner/name is wanted" in message) == ("UsageError", True)


def test_folders_of_classes(hub: hub_server.Hub, call: Callable[..., Any]) -> None:
    clip = hub.clip  # type: ignore[attr-defined]
    hub.put(NAME, {"wave/a.mp4": clip, "sit/b.mp4": clip})
    rows, _, notes, _ = call("hf:me/clips")
    assert [row[:2] for row in rows] == [["sit/b.mp4", "sit"], ["wave/a.mp4", "wave"]]
    assert len(notes) == 1
