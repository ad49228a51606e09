from __future__ import annotations

import pytest
import tiny

from videorwkv.models import build_model
from videorwkv.training.optim import learning_rate, make_optimizer


def rate(step: int, **changes: float) -> float:
    options = {"peak": 1.0, "warmup": 0.1, "min_lr": 0.1, **changes}
    return learning_rate(step, total_steps=101, **options)


def test_schedule_by_hand() -> None:
    assert rate(0) == pytest.approx(0.1)  # 10 warm-up steps
    assert rate(4) == pytest.approx(0.5)
    assert rate(9) == pytest.approx(1.0)
    assert rate(10) == pytest.approx(1.0)
    assert rate(55) == pytest.approx(0.55)  # the middle of the cosine: (1 + 0.1) / 2
    assert rate(100) == pytest.approx(0.1)


def test_schedule_without_warmup_starts_at_the_peak_and_never_rises() -> None:
    rates = [rate(step, warmup=0.0) for step in range(101)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def test_one_step_run_has_a_rate() -> None:
    assert learning_rate(0, total_steps=1, peak=2.0, warmup=0.0, min_lr=0.0) == 2.0


def test_only_matrices_and_kernels_are_decayed() -> None:
    model = build_model(tiny.recipe(model={"readout": "cls", "position": "learned"}).model)
    optimizer = make_optimizer(model, lr=1.0, weight_decay=0.3, betas=(0.9, 0.98))
    decayed = {
        id(p) for g in optimizer.param_groups if g["weight_decay"] == 0.3 for p in g["params"]
    }
    free = {id(p) for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]}
    names = {name: id(p) for name, p in model.named_parameters()}
    assert decayed | free == set(names.values())
    assert not decayed & free
    for name in ("head.weight", "stem.layers.0.weight", "layers.0.mix_in.weight"):
        assert names[name] in decayed
    for name in ("head.bias", "layers.0.decay", "layers.0.bonus", "layers.0.norm_gate.weight",
                 "cls_token", "position"):  # fmt: skip
        assert names[name] in free
