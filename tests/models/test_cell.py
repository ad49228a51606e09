"""What the cells compute, and whose past the queries ask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, make_inputs, make_model

from videorwkv.models import LCR
from videorwkv.models.layer import CrossRWKVLayer


def test_rglru_is_griffins() -> None:
    """Equations 1 to 4 of arXiv 2402.19427, a frame after the other."""
    layer = make_model(replace(SMALL, cell="rglru")).double().layers[0]
    assert isinstance(layer, CrossRWKVLayer)
    branch_TBLC = torch.randn(5, 2, 3, SMALL.width, dtype=torch.float64)
    nothing_BLC = torch.zeros_like(branch_TBLC[0])
    past = nothing_BLC, nothing_BLC
    out_TBLC, _, memories = layer._cells(branch_TBLC, None, None, None, *past)
    weight_XC, bias_X = layer.cell_gates.weight, layer.cell_gates.bias
    kept_C = torch.sigmoid(-layer.recurrence)
    memory_BLC = nothing_BLC
    for t in range(5):
        gates_BLX = torch.sigmoid(branch_TBLC[t] @ weight_XC.T + bias_X)
        r, i = gates_BLX[..., : SMALL.width], gates_BLX[..., SMALL.width :]
        a = kept_C ** (8 * r)
        memory_BLC = a * memory_BLC + torch.sqrt(1 - a**2) * (i * branch_TBLC[t])
        torch.testing.assert_close(memories[t], memory_BLC)
        shown_BLC = torch.tanh(memory_BLC) * torch.sigmoid(branch_TBLC[t])
        torch.testing.assert_close(out_TBLC[t], shown_BLC)


def test_rglru_starts_with_memories_of_one_to_all_frames() -> None:
    layer = LCR(replace(SMALL, cell="rglru", num_frames=11)).layers[0]
    half_open_C = torch.sigmoid(-layer.recurrence.detach()) ** (8 * 0.5)
    assert float(half_open_C[0]) == pytest.approx(1 / 2, abs=1e-5)
    assert float(half_open_C[-1]) == pytest.approx(10 / 11, abs=1e-5)


@pytest.mark.parametrize(
    ("past", "asked"), [("own", [True] * 3), ("below", [True, True, False]), ("none", [False] * 3)]
)
def test_whose_output_the_next_frame_reads(past: str, asked: list[bool]) -> None:
    model = make_model(replace(SMALL, past=past, depth=3))
    config, inputs = model.config, make_inputs(1, 2)
    with torch.inference_mode():
        _, state = model.step(inputs.at(0, 1), model.init_state(1))
        wanted_BK, _ = model.step(inputs.at(1, 2), state)
        for layer in range(3):
            hidden_NBLC = state.hidden_NBLC.clone()
            hidden_NBLC[layer] += 1
            found_BK, _ = model.step(inputs.at(1, 2), state._replace(hidden_NBLC=hidden_NBLC))
            assert (not torch.equal(found_BK, wanted_BK)) == asked[layer]
            assert config.reads_hidden(layer) == asked[layer]
