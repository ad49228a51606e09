"""A memory whose time is the change of the pixels: it writes while something moves, and holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, VARIANTS, make_inputs, make_model

from videorwkv.errors import ConfigError
from videorwkv.models import Inputs, LCRConfig, model_config
from videorwkv.models.stems import HALF_MOVED, moved

CLOCK = VARIANTS["clock of change"]
OF_CHANGE = [name for name, config in VARIANTS.items() if config.memory_clock == "change"]


def held(inputs: Inputs, repeats: int) -> Inputs:
    """The last frame, `repeats` times."""
    return Inputs(*(x[:, -1:].expand(-1, repeats, *x.shape[2:]) for x in inputs))


def changed_by(inputs: Inputs, levels: int, seed: int = 1) -> Inputs:
    """The last frame with noise of up to so many grey levels in each pixel and colour."""
    pixels = inputs.frames_BTHWC[:, -1:].int().clamp(levels, 255 - levels)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(-levels, levels + 1, pixels.shape, generator=generator)
    return Inputs((pixels + noise).to(torch.uint8), inputs.edges_BTHW[:, -1:])


@pytest.mark.parametrize("name", OF_CHANGE)
def test_repeats_of_the_last_frame_leave_the_memory_as_it_is(name: str) -> None:
    model, inputs = make_model(VARIANTS[name]), make_inputs(2, 5)
    with torch.inference_mode():
        _, played = model.scan(inputs)
        _, still = model.scan(held(inputs, 1), played)
        _, later = model.scan(held(inputs, 40), still)
        step = still
        for _ in range(3):
            _, step = model.step(held(inputs, 1), step)
    assert torch.equal(still.memory_NBLC, played.memory_NBLC)
    assert torch.equal(later.memory_NBLC, played.memory_NBLC)
    assert torch.equal(step.memory_NBLC, played.memory_NBLC)
    assert later.seen_B.tolist() == [46, 46]


def test_by_frames_repeats_do_not() -> None:
    config = replace(CLOCK, memory_clock="frames")
    model, inputs = make_model(config), make_inputs(2, 5)
    with torch.inference_mode():
        _, played = model.scan(inputs)
        _, still = model.scan(held(inputs, 1), played)
        _, later = model.scan(held(inputs, 1), still)
    for one, other in ((played, still), (still, later)):
        changed_N = (one.memory_NBLC - other.memory_NBLC).abs().amax((1, 2, 3))
        assert float(changed_N.min()) > 1e-3


@pytest.mark.parametrize("name", OF_CHANGE)
def test_the_first_frame_is_written(name: str) -> None:
    model = make_model(VARIANTS[name])
    with torch.inference_mode():
        _, state = model.scan(make_inputs(2, 1))
    # Every token of every layer holds something.
    assert float(state.memory_NBLC.abs().amax(-1).min()) > 1e-4


def test_noise_of_a_grey_level_writes_far_less_than_motion() -> None:
    model, inputs = make_model(CLOCK), make_inputs(2, 3)
    # Mid-grey, so that noise and motion have room on both sides.
    inputs = Inputs(inputs.frames_BTHWC // 2 + 64, inputs.edges_BTHW)
    with torch.inference_mode():
        _, before = model.scan(inputs)

        def written(following: Inputs) -> float:
            _, after = model.scan(following, before)
            return float((after.memory_NBLC - before.memory_NBLC).abs().mean())

        noise = written(changed_by(inputs, 1))
        motion = written(changed_by(inputs, 60))
    assert 0 < noise < 0.02 * motion


def test_how_far_a_patch_has_moved() -> None:
    change_FHWI = torch.zeros(3, 16, 32, 3)  # two rows of four patches
    change_FHWI[1, :8, 8:16] = HALF_MOVED
    change_FHWI[1, 8:, 24:] = -100 * HALF_MOVED
    change_FHWI[2] = 0.1 * HALF_MOVED
    result_FL2 = moved(change_FHWI, 8, torch.tensor([False, True, True]))
    assert (result_FL2[0] == 1).all()  # a stream's first frame
    own_L, frame_L = result_FL2[1].unbind(-1)
    wanted_L = torch.tensor([0, 0.5, 0, 0, 0, 0, 0, 1.0])
    assert torch.allclose(own_L, wanted_L, atol=1e-6)
    assert (own_L[wanted_L == 0] == 0).all()
    assert torch.allclose(frame_L, wanted_L.mean().expand(8), atol=1e-6)
    assert 0 < float(result_FL2[2].min()) <= float(result_FL2[2].max()) < 1e-3


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"cell": "none"}, "cell='none', stem_frames=2"),
        ({"cell": "lstm"}, "cell='lstm', stem_frames=2"),
        ({"cell": "paper"}, "cell='paper', stem_frames=2"),
        ({"stem_frames": 1}, "cell='gated', stem_frames=1"),
    ],
)
def test_where_it_can_not_be(changes: dict[str, object], got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(SMALL, memory_clock="change", **changes)  # type: ignore[arg-type]
    said = str(caught.value)
    assert got in said
    assert "choose cell='gated' and stem_frames=2, or memory_clock='frames'" in said


def test_the_small_preset_without_a_memory_says_what_to_change_with_it() -> None:
    changes: dict[str, object] = {"cell": "none"}
    for name, value in (("readout", "mean"), ("memory_clock", "frames")):
        with pytest.raises(ConfigError, match=f"{name}='{value}'"):
            model_config("lcr_pico", **changes)
        changes[name] = value
    assert model_config("lcr_pico", **changes).cell == "none"


def test_a_configuration_from_before_it_existed_counts_frames() -> None:
    values = SMALL.to_dict()
    del values["memory_clock"]
    assert LCRConfig.from_dict(values) == SMALL
    assert SMALL.memory_clock == "frames"
