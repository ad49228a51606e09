from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import tiny
import torch

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.inference.recogniser import load_run
from videorwkv.training.state import load_state, save_state


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


def test_full_disk_leaves_the_old_checkpoint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, {"step": 1, "weights": torch.arange(1000)})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*untouched") as caught:
        save_state(tmp_path, {"step": 2, "weights": torch.zeros(1000)})
    assert "--resume" in str(caught.value)
    assert load_state(tmp_path)["step"] == 1
    assert os.listdir(tmp_path) == ["state.pt"]


def test_run_keeps_what_made_it(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.labels == tiny.manifest().labels
    assert loaded.recipe.model.num_classes == 8
    assert loaded.recipe.seed == 0
    assert loaded.data["digest"] == tiny.manifest().digest
    assert loaded.data["splits"] == {"train": 20, "validation": 8, "test": 8}
    assert loaded.flips == tiny.manifest().flips
    assert set(loaded.versions) == {"videorwkv", "torch", "python", "commit", "machine"}


@pytest.mark.parametrize(
    ("name", "which"), [("", "best"), ("best", "best"), ("last", "last"),
                        ("last.safetensors", "last")]
)  # fmt: skip
def test_names_of_a_run(run: Path, name: str, which: str) -> None:
    loaded = load_run(run / name)
    assert loaded.which == which
    model = loaded.model()
    assert not model.training
    assert model.config == loaded.recipe.model


def test_best_of_a_run_that_chose_none(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no validation has chosen.* Take .*run/last"):
        load_run(folder / "best").model()


def test_missing_run_names_those_beside_it(run: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        load_run(run.parent / "tinny")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1}', "recipe"),
        ('{"format": 1, "recipe": {"lr": "fast"}}', "recipe.lr"),
    ],
)
def test_broken_config(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        load_run(tmp_path)
    assert part in str(caught.value)
    assert "config.json" in str(caught.value)


def test_weights_of_another_shape_name_the_shapes(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    tiny.edit_config(other, lambda c: c["recipe"]["model"].update(num_classes=5))
    tiny.edit_config(other, lambda c: c.update(labels=c["labels"][:5]))
    with pytest.raises(CheckpointError, match=r"\[8, 32\].*\[5, 32\]|\[8\].*\[5\]"):
        load_run(other).model()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_broken_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        load_state(tmp_path)


def test_state_can_not_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "broken-in"),)

    torch.save({"step": Evil()}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError):
        load_state(tmp_path)
    assert not (tmp_path / "broken-in").exists()
