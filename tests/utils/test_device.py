from __future__ import annotations

import multiprocessing
from typing import NoReturn

import pytest
import torch

from videorwkv.errors import UsageError
from videorwkv.utils import device as devices
from videorwkv.utils.device import autocast, pick_device, resolve_precision
from videorwkv.utils.workers import WorkerPool


@pytest.mark.parametrize("name", ["mps", "mps:0", "xpu", "meta", "vulkan", "hpu", "cuda:99", "nope",
                                  "", "x" * 500])  # fmt: skip
def test_a_device_that_is_not_there_is_said_in_one_sentence(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        pick_device(name)
    text = str(caught.value)
    assert text.endswith("Usual: auto, cpu, cuda, cuda:1, mps.")
    assert "aten::" not in text
    assert len(text) < 350


def test_mps_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="there is no Apple GPU"):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    with pytest.raises(UsageError, match="this build of PyTorch is not for Apple's GPUs"):
        pick_device("mps")


@pytest.mark.parametrize("works", [True, False])
def test_auto_takes_mps_where_it_works(monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "_works", lambda kind: works)
    assert pick_device().type == ("mps" if works else "cpu")


def test_what_a_model_consists_of_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices._works("cpu")

    def missing(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError("aten::conv2d")

    monkeypatch.setattr(torch, "conv2d", missing)
    assert not devices._works("cpu")


def _in_a_pool(_: int) -> str:
    try:
        WorkerPool(str, workers=1)
    except UsageError as error:
        return str(error)
    return ""


def test_no_worker_processes_in_a_daemonic_process() -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        (text,) = pool.map(_in_a_pool, [0])
    assert "this is a daemonic process" in text
    assert "--pool=threads" in text


@pytest.mark.parametrize(("has_it", "wanted"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_by_device(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_it)
    assert resolve_precision(torch.device("cuda"), "auto") == wanted
    assert resolve_precision(torch.device("cpu"), "auto") == "float32"
    assert resolve_precision(torch.device("cpu"), "bfloat16") == "bfloat16"  # a name is obeyed
    with autocast(torch.device("cpu"), "auto"):
        assert not torch.is_autocast_enabled("cpu")
