"""The spatial shift beside a loop over patches, whole and masked; what starts without influence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, make_inputs, make_model
from torch import Tensor

from videorwkv.errors import ConfigError
from videorwkv.models import LCRConfig, build_model
from videorwkv.models.shift import PartedLinear, SpatialShift, q_shift


def by_hand(x_FLC: Tensor, rows: int, columns: int, head_width: int) -> Tensor:
    out = torch.zeros_like(x_FLC)
    for row in range(rows):
        for column in range(columns):
            for channel in range(x_FLC.shape[2]):
                quarter = channel % head_width // (head_width // 4)
                dy, dx = [(0, -1), (0, 1), (-1, 0), (1, 0)][quarter]
                y, x = row + dy, column + dx
                if 0 <= y < rows and 0 <= x < columns:
                    source = x_FLC[:, y * columns + x, channel]
                    out[:, row * columns + column, channel] = source
    return out


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 5), (1, 4), (4, 1), (1, 1)])
def test_quarters_of_each_head_come_from_the_four_neighbours(rows: int, columns: int) -> None:
    x = torch.randn(2, rows * columns, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(q_shift(x, rows, columns, 8), by_hand(x, rows, columns, 8))


def test_masked_patches_count_as_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    x_TBLC = torch.randn(2, 3, 6, 8, generator=generator)
    keep_BJ = torch.tensor([[0, 1, 4], [2, 3, 5], [1, 3, 5]])
    for keep_TBJ in (keep_BJ[None], torch.stack([keep_BJ, keep_BJ.flip(0)])):
        whole = torch.zeros_like(x_TBLC)
        index = keep_TBJ.expand(2, -1, -1)[..., None].expand(-1, -1, -1, 8)
        kept = x_TBLC.gather(2, index)
        whole.scatter_(2, index, kept)
        wanted = by_hand(whole.flatten(0, 1), 2, 3, 8).view_as(whole).gather(2, index)
        shift = SpatialShift(2, 3, 8, keep_TBJ)
        assert torch.equal(shift(kept), wanted)
        for t, one in enumerate(shift.frames(2)):
            assert torch.equal(one(kept[t]), wanted[t])


def test_cls_stays_as_it_is() -> None:
    x_BLC = torch.randn(2, 7, 8)
    shifted = SpatialShift(2, 3, 8, has_cls=True)(x_BLC)
    assert torch.equal(shifted[:, 0], x_BLC[:, 0])
    assert torch.equal(shifted[:, 1:], by_hand(x_BLC[:, 1:], 2, 3, 8))


def test_parts_are_those_of_one_map() -> None:
    parted = PartedLinear(4, [2, 3], bias=True)
    one, other = torch.randn(5, 4), torch.randn(5, 4)
    wanted = torch.cat([
        torch.nn.functional.linear(one, parted.weight, parted.bias)[:, :2],
        torch.nn.functional.linear(other, parted.weight, parted.bias)[:, 2:],
    ], 1)  # fmt: skip
    torch.testing.assert_close(parted(one, other), wanted)


@pytest.mark.parametrize("mask", ["tube_mask_ratio", "motion_mask_ratio"])
def test_a_mask_of_nothing_is_no_mask(mask: str) -> None:
    # One patch of nine is left out at a ratio of .1, none at .05.
    model = make_model(replace(SMALL, spatial_shift="q_shift"))
    inputs = make_inputs(2, 3)
    with torch.inference_mode():
        whole, _ = model.scan(inputs)
        masked, _ = model.scan(inputs, model.init_state(2, **{mask: 0.05}))
        torch.testing.assert_close(masked, whole, rtol=0, atol=1e-5)
        one_less, _ = model.scan(inputs, model.init_state(2, **{mask: 0.1}))
    assert float((one_less - whole).abs().max()) > 1e-3


def test_neighbours_reach_a_token_whose_mixer_sees_nothing() -> None:
    for shift, reached in (("none", False), ("q_shift", True)):
        model = make_model(replace(SMALL, spatial_shift=shift, mixer="none", depth=1, cell="lstm"))
        x = torch.randn(1, 1, 9, 16, requires_grad=True)
        layer = model.layers[0]
        state = torch.zeros(1, 9, 16)
        near = SpatialShift(3, 3, 8) if reached else None
        edge = torch.zeros(1, 1, 9, 16)
        y = layer.run(x, edge, None, state, state, state, None, None, None, near)[0]
        (grad,) = torch.autograd.grad(y[0, 0, 4].sum(), x)
        seen = {i for i in range(9) if float(grad[0, 0, i].abs().sum()) > 0}
        # By the channel mixing from the neighbours' neighbours, too: none is a corner's alone.
        assert seen == (set(range(9)) if reached else {4})


def test_a_memory_that_starts_at_zero_leaves_every_frame_alone() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, cell_scale=True, time_shift=False, stem_frames=1)
    model, tokens = build_model(config).eval(), []
    model.layers[-1].register_forward_hook(lambda module, args, out: tokens.append(out[0]))
    inputs = make_inputs(1, 4)
    with torch.inference_mode():
        model.scan(inputs)
        for t in range(4):
            model.scan(inputs.at(t, t + 1))
    # What differs is the order of sums in batches of another size.
    torch.testing.assert_close(torch.cat(tokens[1:]), tokens[0], rtol=0, atol=1e-5)
    # The memory itself fills, and is what the classifier reads.
    assert float(model.scan(inputs)[1].memory_NBLC.detach().abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"spatial_shift": "q_shift", "head_width": 2}, "multiple of 4"),
        ({"spatial_shift": "qshift"}, "Did you mean 'q_shift'"),
        ({"cell_scale": True, "cell": "none"}, "adds nothing"),
        ({"cell_scale": True, "residual": False}, "residual=false adds nothing"),
    ],
)
def test_what_can_not_be(changes: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        LCRConfig(**{**{"width": 16, "head_width": 8, "position": "none"}, **changes})  # type: ignore[arg-type]


def test_joint_attention_has_no_spatial_shift() -> None:
    with pytest.raises(ConfigError, match="choose spatial_shift='none'"):
        build_model(replace(SMALL, mixer="joint", cell="none", spatial_shift="q_shift"))
