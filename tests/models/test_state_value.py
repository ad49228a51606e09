"""States side by side, taken apart, and as tensors with names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, VARIANTS, make_inputs, make_model

from videorwkv.errors import UsageError
from videorwkv.models import Inputs, LCRState

MASKS = [{}, {"tube_mask_ratio": 0.4}, {"motion_mask_ratio": 0.4}]


def one(inputs: Inputs, stream: int) -> Inputs:
    return Inputs(*(x[stream : stream + 1] for x in inputs))


@pytest.mark.parametrize("mask", MASKS, ids=["whole", "tube", "motion"])
@pytest.mark.parametrize("name", ["default", "cls", "no memory", "clock of change"])
@torch.inference_mode()
def test_streams_side_by_side_are_what_they_are_alone(name: str, mask: dict[str, float]) -> None:
    model = make_model(VARIANTS[name])
    inputs = make_inputs(3, 4)
    states = [model.init_state(generator=torch.Generator().manual_seed(0), **mask)] * 3
    alone = []
    for stream in range(3):
        # The second stream misses the third frame.
        seen = [t for t in range(4) if (stream, t) != (1, 2)]
        state = states[stream]
        for t in seen:
            logits_BK, state = model.step(one(inputs, stream).at(t, t + 1), state)
        alone.append(logits_BK)
    together = LCRState.join(states)
    for t in range(4):
        rows = [0, 2] if t == 2 else [0, 1, 2]
        frames = Inputs(*(x[rows, t : t + 1] for x in inputs))
        logits_BK, part = model.step(frames, together.select(rows))
        together = together.put(rows, part)
    assert together.seen_B.tolist() == [4, 3, 4]
    torch.testing.assert_close(logits_BK, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mask", MASKS, ids=["whole", "tube", "motion"])
@torch.inference_mode()
def test_a_state_made_of_its_tensors_goes_on_the_same(mask: dict[str, float]) -> None:
    model = make_model()
    inputs = make_inputs(1, 4)
    first = model.init_state(generator=torch.Generator().manual_seed(0), **mask)
    _, state = model.scan(inputs.at(0, 2), first)
    copy = first.from_dict({name: x.clone() for name, x in state.to_dict().items()})
    assert torch.equal(model.scan(inputs.at(2, 4), copy)[0], model.scan(inputs.at(2, 4), state)[0])


def test_states_that_do_not_fit_are_refused() -> None:
    state = make_model().init_state()
    wide = make_model(replace(SMALL, width=24)).init_state()
    masked = make_model().init_state(motion_mask_ratio=0.5)
    for other in (wide, masked):
        with pytest.raises(UsageError, match="different models, sizes or masks"):
            LCRState.join([state, other])
        with pytest.raises(UsageError, match="fits the model and the masks"):
            state.from_dict(other.to_dict())
    with pytest.raises(UsageError, match="0 states"):
        LCRState.join([])
    torn = state.to_dict() | {"memory_NBLC": torch.full_like(state.memory_NBLC, float("nan"))}
    with pytest.raises(UsageError, match="'memory_NBLC' holds NaN"):
        state.from_dict(torn)
