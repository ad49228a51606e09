"""`forward`, `scan`, `step`, every cut agree; gradients reach the first state; masks save cost."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, VARIANTS, make_inputs, make_model
from torch.utils.flop_counter import FlopCounterMode

from videorwkv.errors import UsageError
from videorwkv.models import (
    Inputs,
    LCRConfig,
    build_model,
    lcr,
    list_models,
    model_config,
    tube_mask,
)
from videorwkv.ops.wkv import scan_backend

# In the published form no pixel reaches `[CLS]`: see the test on that.
PIXELS_ONLY = ("stem.embed.weight", "stem.embed.bias")


@pytest.mark.parametrize("name", VARIANTS)
def test_forward_scan_step_and_every_cut_agree(name):
    model = make_model(VARIANTS[name])
    inputs = make_inputs(2, 5)
    with torch.inference_mode():
        whole, end = model.scan(inputs)
        assert torch.allclose(model(inputs), whole[:, -1], atol=1e-6)
        state = model.init_state(2)
        for t in range(5):
            logits, state = model.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits, whole[:, t], atol=1e-5)
        assert torch.allclose(state.memory_NBLC, end.memory_NBLC, atol=1e-5)
        for cut in range(1, 5):
            first, state = model.scan(inputs.at(0, cut))
            second, state = model.scan(inputs.at(cut, 5), state)
            assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-5)
            assert torch.allclose(state.hidden_NBLC, end.hidden_NBLC, atol=1e-5)
            assert state.seen_B.tolist() == [5, 5]


@pytest.mark.parametrize("name", ["default", "published", "softmax", "cls"])
def test_past_changes_the_answer(name):
    model = make_model(VARIANTS[name])
    inputs, other = make_inputs(1, 3), make_inputs(1, 3, seed=1)
    mixed = Inputs(
        *(torch.cat([o[:, :2], i[:, 2:]], 1) for o, i in zip(other, inputs, strict=True))
    )
    with torch.inference_mode():
        assert not torch.allclose(model(inputs), model(mixed), atol=1e-6)


@pytest.mark.parametrize("cell", ["gated", "paper"])
def test_gradcheck_back_to_the_first_state(cell):
    config = replace(SMALL, image_size=16, width=8, depth=2, cell=cell, num_classes=2)
    model = make_model(config).double()
    inputs = make_inputs(1, 2, size=16)
    state = model.init_state(1)
    hidden = (0.1 * torch.randn(state.hidden_NBLC.shape, dtype=torch.float64)).requires_grad_()
    memory = (0.1 * torch.randn(state.memory_NBLC.shape, dtype=torch.float64)).requires_grad_()

    def last_logits(hidden, memory):
        start = state._replace(hidden_NBLC=hidden, memory_NBLC=memory)
        return model.scan(inputs, start)[0][:, -1]

    assert torch.autograd.gradcheck(last_logits, (hidden, memory))
    last_logits(hidden, memory).sum().backward()
    assert float(hidden.grad.abs().min(dim=1).values.max()) > 0


NEAR_CLS = {f"layers.1.near_{x}" for x in ("receptance", "gate", "mix_receptance", "mix_key")}


def test_every_parameter_learns():
    for name, config in VARIANTS.items():
        model = make_model(config).train()
        model(make_inputs(2, 3)).square().sum().backward()
        for parameter_name, parameter in model.named_parameters():
            if not parameter.requires_grad:  # of a pretrained stem
                continue
            assert parameter.grad is not None, (name, parameter_name)
            learns = float(parameter.grad.abs().sum()) > 0
            pixels_only = name == "published" and parameter_name in PIXELS_ONLY
            # Nothing but `[CLS]` is read of the last layer, and it has no neighbours.
            alone = name == "q-shift, cls" and parameter_name in NEAR_CLS
            assert learns != (pixels_only or alone), (name, parameter_name)


def test_published_form_classifies_edges_alone():
    # `[CLS]` reads K and V, those come from edges, and nothing else mixes tokens: as published,
    # pixels never reach the logits but through Canny. LOG.md tells what follows from that.
    model = make_model(VARIANTS["published"])
    first, second = make_inputs(1, 3), make_inputs(1, 3, seed=1)
    with torch.inference_mode():
        same_edges = model(Inputs(second.frames_BTHWC, first.edges_BTHW))
        assert torch.equal(same_edges, model(first))
        same_pixels = model(Inputs(first.frames_BTHWC, second.edges_BTHW))
        assert not torch.allclose(same_pixels, model(first))


@pytest.mark.parametrize("name", ["default", "clock of change"])
def test_streams_are_independent_and_one_can_be_reset(name):
    model = make_model(VARIANTS[name])
    inputs = make_inputs(3, 4)
    with torch.inference_mode():
        _, state = model.scan(inputs.at(0, 2))
        state = state._replace(memory_NBLC=state.memory_NBLC.clone())
        state.memory_NBLC[:, 1] = float("nan")  # a stream that went bad
        state = state.reset(1)
        logits, state = model.scan(inputs.at(2, 4), state)
        fresh, _ = model.scan(Inputs(*(x[1:2, 2:] for x in inputs)))
        whole, _ = model.scan(inputs)
    assert torch.allclose(logits[1], fresh[0], atol=1e-5)
    assert torch.allclose(logits[0], whole[0, 2:], atol=1e-5)
    assert torch.allclose(logits[2], whole[2, 2:], atol=1e-5)
    assert state.seen_B.tolist() == [4, 2, 4]


@pytest.mark.parametrize("name", ["default", "cls", "learned position"])
def test_tube_mask_drops_tokens(name):
    config = replace(VARIANTS[name], image_size=32)
    model = make_model(config)
    inputs = make_inputs(2, 3, size=32)

    def macs(ratio: float) -> tuple[int, torch.Tensor]:
        state = model.init_state(2, tube_mask_ratio=ratio)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            logits, _ = model.scan(inputs, state)
        with torch.inference_mode(), FlopCounterMode(display=False) as stems:
            model._tokens(inputs, state, None if ratio == 0 else state.keep_BK[None])
        return counter.get_total_flops() - stems.get_total_flops(), logits

    full, _ = macs(0.0)
    half, logits = macs(0.5)
    assert half < 0.55 * full
    assert torch.isfinite(logits).all()


def test_tube_mask_is_one_draw_for_all_frames_and_keeps_the_rest():
    keep = tube_mask(16, 0.5, 3, generator=torch.Generator().manual_seed(0))
    assert keep.shape == (3, 8)
    assert (keep.diff(dim=1) > 0).all()
    assert len({tuple(row.tolist()) for row in keep}) == 3
    assert tube_mask(4, 0.99, 1).shape == (1, 1)
    # The pixels of dropped patches do not matter, those of kept ones do (a patch stem sees no
    # neighbours).
    model = make_model(VARIANTS["learned position"])
    inputs = make_inputs(1, 3)
    state = model.init_state(1, tube_mask_ratio=0.5, generator=torch.Generator().manual_seed(0))
    dropped = sorted(set(range(9)) - set(state.keep_BK[0].tolist()))

    def with_black(patches: list[int]) -> Inputs:
        frames, edges = inputs.frames_BTHWC.clone(), inputs.edges_BTHW.clone()
        for patch in patches:
            rows = slice(patch // 3 * 8, patch // 3 * 8 + 8)
            columns = slice(patch % 3 * 8, patch % 3 * 8 + 8)
            frames[:, :, rows, columns] = 0
            edges[:, :, rows, columns] = 0
        return Inputs(frames, edges)

    with torch.inference_mode():
        wanted = model.scan(inputs, state)[0]
        assert torch.equal(model.scan(with_black(dropped), state)[0], wanted)
        kept = state.keep_BK[0].tolist()
        assert not torch.allclose(model.scan(with_black(kept), state)[0], wanted)


def test_a_convlstm_sees_the_past_of_neighbours_alone():
    # Nothing else mixes tokens here, so what a patch showed comes to its neighbours' memory only.
    config = replace(
        SMALL, image_size=40, mixer="none", stem="patch", cell="convlstm", depth=1, edges="none",
        key_value_source="frame",
    )  # fmt: skip
    model = make_model(config)
    inputs = make_inputs(1, 2, size=40)
    changed = inputs.frames_BTHWC.clone()
    changed[0, 0, 16:24, 16:24] = 0  # the patch in the middle of 5 x 5, in the first frame
    # The stem and the time shift see a token's own past; the frame itself is the same.
    with torch.inference_mode():
        states = [model.scan(x)[1] for x in (inputs, Inputs(changed, inputs.edges_BTHW))]
    moved = (states[0].memory_NBLC - states[1].memory_NBLC).abs().amax((0, 1, 3)).view(5, 5) > 1e-6
    wanted = torch.zeros(5, 5, dtype=torch.bool)
    wanted[1:4, 1:4] = True
    assert torch.equal(moved, wanted)


def test_a_convlstm_refuses_masks_and_other_frames():
    model = make_model(replace(SMALL, cell="convlstm"))
    with pytest.raises(UsageError, match="a mask was asked for"):
        model.init_state(1, tube_mask_ratio=0.5)
    with pytest.raises(UsageError, match="3x6 patches"):
        model.scan(Inputs(*(torch.cat([x, x], dim=3) for x in make_inputs(1, 2))))


def test_training_draws_a_mask_and_evaluation_does_not():
    model = make_model(replace(SMALL, tube_mask_ratio=0.5))
    inputs = make_inputs(2, 2)
    _, state = model.train().scan(inputs)
    assert state.keep_BK is not None
    assert state.keep_BK.shape == (2, 4)
    _, state = model.eval().scan(inputs)
    assert state.keep_BK is None


@pytest.mark.parametrize("name", ["default", "published", "cls", "no memory"])
def test_checkpointing_over_frames_changes_no_gradient(name):
    variant = VARIANTS[name]
    config = replace(variant, drop_path=0.3 * variant.residual, tube_mask_ratio=0.25)
    models = [make_model(config).train() for _ in range(2)]
    models[1].checkpoint_frames = 2
    results = []
    for model in models:
        torch.manual_seed(1)  # drop-path and mask
        logits, _ = model.scan(make_inputs(4, 5))
        logits.square().mean().backward()
        results.append(logits)
    assert torch.allclose(*results, atol=1e-6)
    for one, other in zip(*(model.named_parameters() for model in models), strict=True):
        if one[1].grad is not None:
            scale = float(one[1].grad.abs().max()) + 1e-6
            assert torch.allclose(one[1].grad, other[1].grad, atol=1e-4 * scale), one[0]
    for one, other in zip(*(model.buffers() for model in models), strict=True):
        assert torch.equal(one, other)  # norms have counted each frame once


def test_checkpointing_keeps_fewer_activations():
    def saved(frames: int) -> int:
        model = make_model(SMALL).train()
        model.checkpoint_frames = frames
        size = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.scan(make_inputs(2, 8))
        return size

    assert saved(1) < 0.6 * saved(0)


@pytest.mark.parametrize("name", ["default", "no memory"])
def test_long_clips_run_in_pieces_with_the_same_numbers(name, monkeypatch):
    model = make_model(VARIANTS[name])
    inputs = make_inputs(2, 7)
    with torch.inference_mode():
        monkeypatch.setattr(lcr, "PIECE_TOKENS", 10**9)
        whole, end = model.scan(inputs)
        monkeypatch.setattr(lcr, "PIECE_TOKENS", 2 * 2 * 9)
        calls = []
        advance = model._advance
        monkeypatch.setattr(model, "_advance", lambda *x: calls.append(x) or advance(*x))
        pieces, state = model.scan(inputs)
    assert [call[0].frames_BTHWC.shape[1] for call in calls] == [2, 2, 2, 1]
    assert torch.allclose(pieces, whole, atol=1e-5)
    assert torch.allclose(state.memory_NBLC, end.memory_NBLC, atol=1e-5)
    assert state.seen_B.tolist() == [7, 7]


def test_drop_path_leaves_whole_clips_out():
    config = replace(SMALL, depth=1, drop_path=0.0)
    model = make_model(config).train()
    layer = model.layers[0]
    layer.drop = 0.999
    x, edge = torch.randn(3, 64, 9, 16), torch.randn(3, 64, 9, 16)
    zero = torch.zeros(64, 9, 16)
    y = layer(x, edge, None, zero, zero, zero, layer.draw_kept(64))[0]
    same = (y == x).flatten(2).all(-1)  # [T, B]
    assert same.any()
    assert torch.equal(same.any(0), same.all(0))


def test_a_named_backend_holds_on_the_way_back_in_another_thread():
    model = make_model().train()
    model.checkpoint_frames = 1
    inputs = make_inputs(1, 2)
    gradients = []
    with ThreadPoolExecutor(1) as other:
        for thread in (None, other):
            model.zero_grad()
            with scan_backend("chunked"):
                loss = model(inputs).sum()
                if thread is None:
                    loss.backward()
            if thread is not None:
                thread.submit(loss.backward).result()
            gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_edge_strength_zero_is_no_edges():
    model = make_model(replace(SMALL, edge_strength=0.0))
    first, second = make_inputs(1, 3), make_inputs(1, 3, seed=1)
    with torch.inference_mode():
        got = model(Inputs(first.frames_BTHWC, second.edges_BTHW))
        assert torch.equal(got, model(first))
        strong = make_model(SMALL)
        got = strong(Inputs(first.frames_BTHWC, second.edges_BTHW))
        assert not torch.allclose(got, strong(first))


def test_default_cell_stays_finite_for_ten_thousand_frames():
    config = replace(SMALL, image_size=8, width=8, depth=1)
    model = make_model(config)
    # Ten times the usual weights: not a model that anyone trained, but one that could blow up.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    with torch.inference_mode():
        state = model.init_state(1)
        for part in range(20):
            logits, state = model.scan(make_inputs(1, 500, size=8, seed=part), state)
        assert state.seen_B.tolist() == [10_000]
        assert torch.isfinite(logits).all()
        assert float(state.memory_NBLC.abs().max()) <= 1


def test_presets():
    assert list_models("lcr_*") == [
        "lcr_lite", "lcr_nano", "lcr_paper", "lcr_pico", "lcr_tiny", "lcr_vrwkv6_tiny",
    ]  # fmt: skip
    for name in list_models():
        assert (
            model_config(name).to_dict()
            == LCRConfig.from_dict(model_config(name).to_dict()).to_dict()
        )
    paper = model_config("lcr_paper")
    assert (paper.cell, paper.key_value_source, paper.readout, paper.residual) == (
        "paper",
        "edges",
        "cls",
        False,
    )


def test_enabling_compilation_leaves_weights_copies_and_pickles_alone():
    model = build_model(SMALL)
    names = list(model.state_dict())
    model.enable_compile()
    assert list(model.state_dict()) == names
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            other.layers[0].output.weight.fill_(7.0)
        assert (model.layers[0].output.weight != 7.0).all()
        # A copy that runs the original's layers would not see its own weights.
        assert not any(callable(value) for value in vars(other.layers[0]).values())
