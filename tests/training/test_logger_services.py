"""The services themselves, offline; each is skipped where its library is not installed."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loggers.known import read_known
from videorwkv.training.loop import train

# Of other people's libraries.
pytestmark = pytest.mark.filterwarnings("ignore")

RECIPE = tiny.recipe(steps=6, eval_every=3)


def trained_in_two_attempts(folder: Path, log: str) -> str:
    """A run that was interrupted after four steps and resumed without naming the logger again;
    its name in the service."""

    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    train(RECIPE, tiny.manifest(), folder, quiet=True, log=log, on_step=stop)
    first = dict(read_known(folder).ids)
    train(RECIPE, tiny.manifest(), folder, quiet=True, resume=True)
    assert dict(read_known(folder).ids) == first
    failed = [e for e in read_log(folder / "log.jsonl") if e["kind"] == "logger_failed"]
    assert failed == []
    return first[log]


def losses(folder: Path) -> dict[int, float]:
    entries = read_log(folder / "log.jsonl")
    return {entry["step"]: entry["loss"] for entry in entries if entry["kind"] == "step"}


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of an offline run: a log as LevelDB writes it, of blocks of 32 KiB, in which each
    piece of a record has a head of 7 bytes; the file has one of its own before."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := -at % (32 << 10)) < 7 and left:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    name = trained_in_two_attempts(tmp_path / "mine", "wandb:project")
    logged: dict[int, float] = {}
    files = sorted(tmp_path.glob(f"mine/wandb/offline-run-*-{name}/run-{name}.wandb"))
    assert files
    for path in files:
        for data in wandb_records(path):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                assert (record.run.project, record.run.display_name) == ("project", "mine")
            values: dict[str, Any] = {
                item.key or item.nested_key[0]: json.loads(item.value_json)
                for item in record.history.item
            }
            if "train/loss" in values:
                logged[values["step"]] = values["train/loss"]
    assert logged == pytest.approx(losses(tmp_path / "mine"))
    assert sorted(logged) == [1, 2, 3, 4, 5, 6]


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The folder is read when the library is imported.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    from trackio.utils import TRACKIO_DIR

    project = f"project-{tmp_path.name}"
    name = trained_in_two_attempts(tmp_path / "my run", f"trackio:{project}")
    assert name.startswith("my_run-")
    database = Path(TRACKIO_DIR) / f"{project}.db"
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    assert {row[0] for row in rows} == {name}
    found = [(step, json.loads(values)) for _, step, values in rows]
    logged = {step: values["train/loss"] for step, values in found if "train/loss" in values}
    assert logged == pytest.approx(losses(tmp_path / "my run"))
    assert sorted(logged) == [1, 2, 3, 4, 5, 6]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    name = trained_in_two_attempts(tmp_path / "mine", "mlflow:project")
    client = mlflow.MlflowClient()
    run = client.get_run(name)
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert client.get_experiment(run.info.experiment_id).name == "project"
    assert run.data.params["recipe.model.width"] == "16"
    logged = {m.step: m.value for m in client.get_metric_history(name, "train/loss")}
    assert logged == pytest.approx(losses(tmp_path / "mine"))
    assert sorted(logged) == [1, 2, 3, 4, 5, 6]
    assert all(map(math.isfinite, logged.values()))
