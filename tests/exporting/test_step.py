from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from videorwkv.errors import UsageError
from videorwkv.exporting.step import RecurrentStep
from videorwkv.models import LCR, Inputs, LCRConfig, build_model
from videorwkv.models.presets import PUBLISHED

SIZE, PATCHES, KEPT = 48, 36, 20


def model(**changes: Any) -> LCR:
    config = LCRConfig(
        image_size=SIZE, patch_size=8, width=32, head_width=16, depth=2, num_classes=5
    )
    torch.manual_seed(0)
    made = build_model(replace(config, **changes)).eval()
    with torch.no_grad():
        # As training might leave them: nothing is zero or one, so nothing can be left out.
        for name, value in made.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point():
                value.add_(torch.randn_like(value) * 0.05)
    return made


def compare(made: LCR, kept: int | None = None, **options: Any) -> float:
    """Largest difference of a logit over five frames of two streams."""
    step = RecurrentStep(made, height=SIZE, width=SIZE, kept=kept, **options).eval()
    ratio = 0.0 if kept is None else 1 - kept / PATCHES
    masks = torch.Generator().manual_seed(1)
    state = made.init_state(2, image_size=SIZE, tube_mask_ratio=ratio, generator=masks)
    shapes = ((2, *port.shape) for port in step.state_ports)
    following = [
        torch.zeros(shape, dtype=getattr(torch, port.dtype))
        for shape, port in zip(shapes, step.state_ports, strict=True)
    ]
    generator = torch.Generator().manual_seed(2)
    worst, before = 0.0, None
    for _ in range(5):
        frames = torch.randint(256, (2, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
        if before is not None:  # some patches stand still, some change a little
            frames[:, :16] = before[:, :16]
            frames[:, 16:32] = before[:, 16:32] ^ 8
        before = frames
        edges = 255 * torch.randint(2, (2, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        given = {"frame": frames, "edges": edges, "keep": state.keep_BK}
        with torch.inference_mode():
            expected_BK, state = made.step(Inputs(frames[:, None], edges[:, None]), state)
            found_BK, *following = step(
                *(given[port.name] for port in step.frame_ports), *following
            )
        worst = max(worst, float((found_BK - expected_BK).abs().max()))
    return worst


OPTIONS: list[dict[str, Any]] = [
    {},
    {"stem": "patch"},
    {"stem_frames": 1},
    {"position": "learned"},
    {"position": "none"},
    {"readout": "cls"},
    {"head_norm": "layer"},
    {"cell": "none"},
    {"cell": "paper"},
    {"residual": False},
    {"edges": "none", "key_value_source": "frame"},
    {"key_value_source": "edges"},
    {"key_value_source": "frame"},
    {"time_shift": False},
    {"mixer": "softmax"},
    {"mixer": "softmax", "scan": "forward"},
    {"mixer": "none"},
    {"scan": "forward"},
    {"edge_strength": 0.5},
    {"learn_edge_strength": True, "edge_strength": 0.5, "readout": "cls"},
    {"forget_source": "rate"},
    {"stem_picture": False, "readout": "cells"},
    {"stem_flow": True},
    {"stem_flow": True, "stem_picture": False, "stem": "patch"},
    {"memory_clock": "change"},
    {"past": "below", "depth": 3},
    {"cell": "rglru", "edges": "none", "key_value_source": "frame"},
    {"past": "none", "cell": "lstm", "mixer": "softmax"},
    {"memory_clock": "change", "forget_source": "rate", "readout": "cls", "stem_picture": False},
    {"stem": "lite0"},
    {"stem": "lite0", "stem_picture": False, "memory_clock": "change", "position": "learned"},
    {"stem": "lite0", "stem_frames": 1, "edges": "none", "key_value_source": "frame"},
    {"cell": "lstm"},
    {"cell": "convlstm"},
    {"token_norm": True},
    {"scan_affine": True, "readout": "cls", "token_norm": True},
    {"cell_scale": True},
    {"spatial_shift": "q_shift"},
    {"spatial_shift": "q_shift", "readout": "cls", "key_value_source": "edges"},
    {"spatial_shift": "q_shift", "cell": "none", "time_shift": False},
    PUBLISHED,
]


@pytest.mark.parametrize("changes", OPTIONS, ids=lambda changes: ",".join(map(str, changes)))
def test_equals_the_model_with_every_option(changes: dict[str, Any]) -> None:
    made = model(**changes)
    assert compare(made) < 2e-5
    if changes.get("cell") != "convlstm":
        assert compare(made, KEPT, max_chunk=9) < 2e-5


def test_neighbours_need_a_whole_square_grid() -> None:
    made = model(cell="convlstm")
    with pytest.raises(UsageError, match="a mask was asked for"):
        RecurrentStep(made, height=SIZE, width=SIZE, kept=KEPT)
    with pytest.raises(UsageError, match="6x3 patches"):
        RecurrentStep(made, height=SIZE, width=SIZE // 2)


def test_tables_fit_another_size() -> None:
    # A table for 4 x 4 patches, shown 6 x 6.
    assert compare(model(position="learned", image_size=32)) < 2e-5


def test_half_state_is_near_and_keeps_the_memory() -> None:
    made = model()
    assert 0 < compare(made, half_state=True) < 5e-3
    step = RecurrentStep(made, height=SIZE, width=SIZE, half_state=True)
    kinds = {port.name.partition(".")[0]: port.dtype for port in step.state_ports}
    assert kinds["memory"] == "float32"
    assert kinds["hidden"] == kinds["input"] == "float16"


@pytest.mark.parametrize("changes", [{}, {"stem": "patch"}])
def test_folding_leaves_the_model_alone(changes: dict[str, Any]) -> None:
    made = model(**changes)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    RecurrentStep(made, height=SIZE, width=SIZE)
    torch.testing.assert_close(made.state_dict(), before, rtol=0, atol=0)


def test_a_clock_of_change_leaves_the_memory_as_it_is_where_nothing_moves() -> None:
    made = model(memory_clock="change")
    step = RecurrentStep(made, height=SIZE, width=SIZE).eval()
    names = [port.name for port in step.state_ports]
    following = [
        torch.zeros((1, *port.shape), dtype=getattr(torch, port.dtype)) for port in step.state_ports
    ]
    generator = torch.Generator().manual_seed(2)
    frame = torch.randint(256, (1, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    memories = []
    with torch.inference_mode():
        for _ in range(3):
            _, *following = step(frame, torch.zeros(1, SIZE, SIZE, dtype=torch.uint8), *following)
            memories.append(following[names.index("memory.1")])
    assert memories[0].abs().max() > 0.01
    assert torch.equal(memories[1], memories[0])
    assert torch.equal(memories[2], memories[0])
