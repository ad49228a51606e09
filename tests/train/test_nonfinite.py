from __future__ import annotations

import torch
from torch import Tensor, nn

from videorwkv.train.nonfinite import first_bad_module


class Root(nn.Module):
    """sqrt at zero has a finite value and an infinite slope."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)


def model(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), *layers)


def test_the_first_module_whose_output_is_bad() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0

    net = model(Bad(), nn.Linear(4, 1))
    assert "'1' (Bad, its output)" in first_bad_module(net, lambda: net(torch.ones(2, 4)).sum())


def test_a_bad_way_back() -> None:
    net = model(nn.ReLU(), Root())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1)
    found = first_bad_module(net, lambda: net(torch.ones(2, 4)).sum())
    assert "'1' (ReLU, the gradient of its output)" in found


def test_a_bad_parameter() -> None:
    net = model()
    with torch.no_grad():
        net[0].bias[1] = float("nan")
    assert first_bad_module(net, lambda: net(torch.ones(2, 4)).sum()) == "parameter '0.bias'"


def test_hooks_are_gone_afterwards() -> None:
    net = model()
    assert "no single module" in first_bad_module(net, lambda: net(torch.ones(2, 4)).sum())
    assert not net[0]._forward_hooks
