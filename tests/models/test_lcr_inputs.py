"""What the model takes and what it refuses: sizes, types, states, options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from tiny_models import SMALL, VARIANTS, make_inputs, make_model

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import Inputs, LCRConfig, build_model, create_model
from videorwkv.models.masking import take
from videorwkv.video.base import Clip, Frame


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 2, "image_size": 8},
        {"patch_size": 3, "image_size": 9},
        {"patch_size": 4, "image_size": 16, "width": 4, "head_width": 4},
    ],
)
def test_stems_of_one_convolution_and_of_few_channels(changes):
    model = make_model(replace(SMALL, **changes))
    inputs = make_inputs(2, 3, size=changes["image_size"])
    state = model.init_state(2, tube_mask_ratio=0.5)
    with torch.inference_mode():
        all_tokens, *_ = model._tokens(inputs, state, None)
        kept_tokens, *_ = model._tokens(inputs, state, state.keep_BK[None])
        wanted_tokens = take(all_tokens.flatten(0, 1), state.keep_BK).view_as(kept_tokens)
        assert torch.allclose(kept_tokens, wanted_tokens, atol=1e-5)
        wanted, _ = model.scan(inputs, state)
        deployed, _ = model.for_inference().scan(inputs, state)
        assert torch.allclose(deployed, wanted, atol=1e-5)
        for t in range(3):
            logits, state = model.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits, wanted[:, t], atol=1e-5)
    model.train()(inputs).sum().backward()


@pytest.mark.parametrize("position", ["rope", "learned", "none"])
def test_any_size_that_the_patch_divides(position):
    model = make_model(replace(SMALL, position=position))
    with torch.inference_mode():
        for height, width in ((40, 16), (24, 24), (8, 8)):
            inputs = Inputs(
                torch.zeros(1, 2, height, width, 3, dtype=torch.uint8),
                torch.zeros(1, 2, height, width, dtype=torch.uint8),
            )
            logits = model(inputs)
            assert logits.shape == (1, 5)
            state = model.init_state(1, image_size=(height, width))
            assert torch.equal(model.scan(inputs, state)[0][:, -1], logits)
        with pytest.raises(UsageError, match="20x24"):
            model(make_inputs(1, 1, size=(20, 24)))
        with pytest.raises(UsageError, match="18x24"):
            model.init_state(1, image_size=(18, 24))
        with pytest.raises(UsageError, match="init_state"):
            model.scan(make_inputs(1, 1, size=16), model.init_state(1))
        with pytest.raises(UsageError, match="one frame"):
            model.step(make_inputs(1, 2), model.init_state(1))


@pytest.mark.parametrize("stem_frames", [1, 2])
def test_a_state_is_for_one_grid(stem_frames):
    model = make_model(replace(SMALL, stem_frames=stem_frames))
    state = model.init_state(1, image_size=(16, 32))
    with torch.inference_mode(), pytest.raises(UsageError, match=r"16x32.*32x16"):
        model.scan(make_inputs(1, 1, size=(32, 16)), state)


def test_inputs_that_are_none():
    model = make_model()
    frames, edges = make_inputs(1, 2)
    for wrong in (
        Inputs(frames.float(), edges),
        Inputs(frames, edges.float()),
        Inputs(frames[0], edges),
        Inputs(frames[..., :1], edges),
        Inputs(frames, edges[:, :1]),
    ):
        with pytest.raises(UsageError, match=r"uint8 \[B, T, H, W, 3\]"):
            model.scan(wrong)
    for empty in (Inputs(frames[:0], edges[:0]), Inputs(frames[:, :0], edges[:, :0])):
        with torch.no_grad(), pytest.raises(UsageError, match="at least one frame"):
            model.scan(empty)
    image = np.zeros((20, 20, 3), np.uint8)
    for array in (image[:, :, 0], image[..., :2], image.astype(np.float32), image[None][:0], "x"):
        with pytest.raises(UsageError, match="preprocess: got"):
            model.preprocess(array)


def test_a_state_keeps_nothing_of_the_callers_frames():
    model = make_model(replace(SMALL, stem="patch"))
    inputs = make_inputs(1, 2)
    buffer = Inputs(*(x[:, :1].clone() for x in inputs))
    state = model.init_state()
    with torch.inference_mode():
        wanted = model(inputs)
        for t in range(2):
            buffer.frames_BTHWC.copy_(inputs.frames_BTHWC[:, t : t + 1])
            buffer.edges_BTHW.copy_(inputs.edges_BTHW[:, t : t + 1])
            logits, state = model.step(buffer, state)
    assert torch.allclose(logits, wanted, atol=1e-5)


def test_double_precision_everywhere():
    for name in ("default", "no position"):
        model = make_model(VARIANTS[name]).double()
        inputs = make_inputs(1, 2, size=(24, 32))
        state = model.init_state(1, image_size=(24, 32), motion_mask_ratio=0.5)
        with torch.inference_mode():
            assert model.scan(inputs, state)[0].dtype == torch.float64
            wanted = model(inputs)
            deployed = model.for_inference()
            assert torch.allclose(deployed(inputs), wanted, rtol=1e-8, atol=1e-10)
        for half in (model.half(), model.bfloat16()):
            with pytest.raises(UsageError, match=r"for_inference\(half=True\)"):
                half(inputs)


def test_an_edge_strength_may_be_a_whole_number():
    model = make_model(replace(SMALL, edge_strength=1, learn_edge_strength=True))
    assert model.layers[0].edge_strength.dtype == torch.float32


def test_bfloat16_keeps_memory_in_float32():
    model = make_model(SMALL)
    inputs = make_inputs(2, 4)
    with torch.inference_mode():
        wanted = model(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            got, state = model.scan(inputs)
    assert got.dtype == state.memory_NBLC.dtype == torch.float32
    assert torch.allclose(got[:, -1], wanted, atol=0.05)


def test_preprocess_takes_clips_frames_and_arrays():
    model = make_model(SMALL)
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 30, 3), dtype=np.uint8)
    clip = Clip(images, np.arange(3.0))
    inputs = model.preprocess(clip)
    assert inputs.frames_BTHWC.shape == (1, 3, 24, 24, 3)
    assert inputs.edges_BTHW.shape == (1, 3, 24, 24)
    assert torch.equal(model.preprocess(images).frames_BTHWC, inputs.frames_BTHWC)
    one = model.preprocess(Frame(images[1], 1.0))
    assert torch.equal(one.frames_BTHWC[:, 0], inputs.frames_BTHWC[:, 1])
    assert torch.equal(one.edges_BTHW[:, 0], inputs.edges_BTHW[:, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 100, "patch_size": 16}, r"image_size \(100\).*96 and 112"),
        ({"width": 20, "head_width": 8}, "width .20. must be a multiple of head_width"),
        ({"cell": "gru"}, r"LCRConfig\.cell: got 'gru'"),
        ({"cell": "paper", "forget_source": "rate"}, "forget_source='rate'"),
        ({"cell": "convlstm", "readout": "cls"}, "readout='mean'"),
        ({"cell": "convlstm", "tube_mask_ratio": 0.5}, "tube_mask_ratio=0"),
        ({"mixer": "softmx"}, "Did you mean 'softmax'"),
        ({"edges": "cany"}, "Did you mean 'canny'"),
        ({"edges": "none"}, "key_value_source='frame'"),
        ({"edges": "none", "key_value_source": "frame", "cell": "paper"}, "cell='gated'"),
        ({"edge_strength": -1.0}, "edge_strength"),
        ({"tube_mask_ratio": 1.0}, "tube_mask_ratio"),
        ({"depth": 0}, r"depth \(0\)"),
        ({"drop_path": 0.5, "residual": False}, "choose drop_path=0"),
        ({"wdith": 8}, "Did you mean 'width'"),
        ({"patch_size": 14, "image_size": 28}, "factors 2 and 3"),
    ],
)
def test_configuration_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        build_model(LCRConfig.from_dict({**SMALL.to_dict(), **change}))


def test_an_unknown_choice_without_the_reader():
    with pytest.raises(ConfigError, match="cell='gru' is unknown"):
        LCRConfig(cell="gru")


def test_unknown_model():
    with pytest.raises(ConfigError, match="Did you mean 'lcr_tiny'"):
        create_model("lcr_tinny")


def test_frames_alone_get_their_edges() -> None:
    torch.manual_seed(0)
    model = build_model(tiny.recipe().model).eval()
    rng = np.random.default_rng(0)
    inputs = model.preprocess(rng.integers(256, size=(3, 40, 48, 3), dtype=np.uint8))
    with torch.inference_mode():
        assert torch.equal(model(inputs.frames_BTHWC), model(inputs))
    for wrong in (inputs.frames_BTHWC.float(), inputs.frames_BTHWC[0], inputs.edges_BTHW):
        with pytest.raises(UsageError, match=r"model\(frames\): got .*uint8 \[B, T, H, W, 3\]"):
            model(wrong)
