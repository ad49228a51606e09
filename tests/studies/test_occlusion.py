"""What a class loses without a token is what it loses, for every read-out and cell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, make_inputs, make_model
from torch import Tensor

from studies import attribution
from studies.attribution import occlude, scan_some

VARIANTS = {
    "default": SMALL,
    "[CLS]": replace(SMALL, readout="cls"),
    "no memory": replace(SMALL, cell="none"),
    "rotary": replace(SMALL, position="rope"),
}


def margins(logits_BTK: Tensor, class_B: list[int]) -> Tensor:
    centred_BTK = logits_BTK - logits_BTK.mean(-1, keepdim=True)
    return torch.stack([x_TK[:, k] for x_TK, k in zip(centred_BTK, class_B, strict=True)])


@pytest.mark.parametrize("name", VARIANTS)
def test_each_token_is_left_out_by_itself(name: str) -> None:
    model, inputs, classes = make_model(VARIANTS[name]), make_inputs(), [3, 1]
    with torch.inference_mode():
        fallen_BTL = occlude(model, inputs, torch.tensor(classes))
        assert fallen_BTL.shape == (2, 4, 9)
        whole_BT = margins(model.scan(inputs)[0], classes)
        for token in (0, 5):
            rest = torch.tensor([[t for t in range(9) if t != token]] * 2)
            without_BT = margins(scan_some(model, inputs, rest), classes)
            assert torch.allclose(fallen_BTL[..., token], whole_BT - without_BT, atol=1e-6)
    assert float(fallen_BTL.abs().min(1).values.max()) > 1e-4


def test_a_token_that_says_nothing_costs_nothing() -> None:
    """The class hangs on what is seen: a model that is deaf to its tokens loses nothing."""
    model = make_model(SMALL)
    with torch.no_grad():
        model.head.weight.zero_()
    assert float(occlude(model, make_inputs(), torch.tensor([0, 1])).abs().max()) == 0


def test_frames_of_another_size_and_of_one_token() -> None:
    model = make_model(SMALL)
    assert occlude(model, make_inputs(1, size=(16, 32)), torch.tensor([0])).shape == (1, 4, 8)
    alone_BTL = occlude(model, make_inputs(1, size=8), torch.tensor([0]))
    assert alone_BTL.tolist() == [[[0.0]] * 4]


@pytest.mark.parametrize(("rows", "columns", "count"), [(14, 14, 49), (8, 8, 64), (3, 200, 50)])
def test_large_grids_go_in_squares(rows: int, columns: int, count: int) -> None:
    squares = attribution._squares(rows, columns)
    assert len(squares) == count
    assert sorted(t for square in squares for t in square) == list(range(rows * columns))


def test_the_tokens_of_a_square_share_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "MOST_PASSES", 4)
    model, inputs = make_model(SMALL), make_inputs()
    fallen_BTL = occlude(model, inputs, torch.tensor([3, 1]))
    whole_BT = margins(model.scan(inputs)[0], [3, 1])
    rest = torch.tensor([[2, 5, 6, 7, 8]] * 2)  # without the first 2 x 2
    loss_BT = whole_BT - margins(scan_some(model, inputs, rest), [3, 1])
    assert torch.allclose(fallen_BTL[..., [0, 1, 3, 4]], loss_BT[..., None] / 4, atol=1e-6)
