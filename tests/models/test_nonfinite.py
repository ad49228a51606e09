from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from videorwkv.errors import NonFiniteError
from videorwkv.inference.recogniser import check_scores
from videorwkv.models import Inputs, LCRConfig, build_model
from videorwkv.models.nonfinite import first_bad_module


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


def test_scores_that_are_none_stop_with_the_layer() -> None:
    config = LCRConfig(image_size=16, patch_size=8, width=16, head_width=8, depth=4, num_classes=3)
    net = build_model(config).eval()
    inputs = Inputs(
        torch.zeros(1, 3, 16, 16, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
    )

    def check() -> None:
        check_scores(net(inputs), net, lambda: net(inputs), "clip.mp4")

    with torch.inference_mode():
        check()
        net.layers[3].mix_in.weight.mul_(1e30)  # its square is infinite
        with pytest.raises(NonFiniteError, match=r"^clip\.mp4: .*'layers\.3\.mix_out' \(Linear"):
            check()
        net.layers[1].output.weight[0, 0] = float("nan")
        with pytest.raises(NonFiniteError, match=r"parameter 'layers\.1\.output\.weight'"):
            check()
    assert not net.layers[3].mix_in._forward_hooks


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_part_is_looked_into() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.run = torch.compile(lambda x: self.two(self.one(x) * 1e30), backend="eager")

        def forward(self, x: Tensor) -> Tensor:
            return self.run(x)

    net = model(Part())
    x = torch.full((2, 4), 1e20)
    assert not torch.isfinite(net(x)).all()  # compiled now, without hooks
    assert "'1.two' (Linear, its output)" in first_bad_module(net, lambda: net(x).sum())


def test_hooks_are_gone_afterwards() -> None:
    net = model()
    assert "no single module" in first_bad_module(net, lambda: net(torch.ones(2, 4)).sum())
    assert not net[0]._forward_hooks
