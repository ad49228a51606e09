from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from studies.questions import complexity
from studies.scaling import JointAttention, MacsAgreement, Scaling, _count, joint_macs
from videorwkv import LCRConfig, build_model
from videorwkv.models import Inputs

CONFIG = LCRConfig(
    image_size=32, patch_size=8, width=32, head_width=16, depth=2, num_classes=5, num_frames=3
)


def test_layers_of_joint_attention_have_the_size_of_lcr_s() -> None:
    ours = build_model(CONFIG)
    theirs = JointAttention(CONFIG)
    counts = [sum(p.numel() for layer in m.layers for p in layer.parameters())
              for m in (ours, theirs)]  # fmt: skip
    assert counts[1] == pytest.approx(counts[0], rel=0.05)


def test_joint_attention_looks_at_all_frames() -> None:
    torch.manual_seed(0)
    model = JointAttention(CONFIG).eval()
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    edges = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    logits_BK = model(Inputs(frames, edges))
    assert logits_BK.shape == (2, 5)
    changed = frames.clone()
    changed[0, 0] = 0
    after_BK = model(Inputs(changed, edges))
    assert not torch.allclose(after_BK[0], logits_BK[0])
    assert torch.allclose(after_BK[1], logits_BK[1], atol=1e-5)
    # Not a bag of frames.
    assert not torch.allclose(model(Inputs(frames.flip(1), edges)), logits_BK)
    logits_BK.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_joint_macs_are_those_of_the_formula() -> None:
    for config in (CONFIG, replace(CONFIG, num_frames=7), replace(CONFIG, stem="patch")):
        counted = _count(JointAttention(config).eval(), config)
        assert counted == pytest.approx(joint_macs(config, config.num_frames), rel=0.01)


def test_probe_measures_every_size() -> None:
    probe = Scaling(over="frames", sizes=(2, 4), quick_sizes=(1, 2, 3), other=32)
    values = probe.probe(quick=True, device="cpu")
    assert values["clock"] == "CPU"
    for rows in values["rows"].values():
        assert [row["size"] for row in rows] == [1, 2, 3]
        assert all(row["ms"] > 0 and row["mib"] >= 0 for row in rows)
        assert rows[2]["macs"] > 2.9 * rows[0]["macs"]


def test_agreement_finds_a_wrong_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    small = (("image_size", 32), ("depth", 2))
    names = ("lcr_nano", "lcr_vrwkv6_tiny")
    probe = MacsAgreement(configurations=tuple((name, name, small) for name in names))
    right = probe.probe(quick=True, device="cpu")
    assert all(abs(right[name]["difference"]) < 0.01 for name in names)
    sentence, _ = complexity._agreement(right)
    assert "agree within" in sentence
    monkeypatch.setattr("studies.scaling.frame_macs", lambda config: 1000)
    sentence, table = complexity._agreement(probe.probe(quick=True, device="cpu"))
    assert "DISAGREE" in sentence
    assert table.rows[0][0] == "lcr_nano"


def test_page_of_known_costs() -> None:
    """Costs with exponents 1 and 2: the page says so, and where the two cross."""

    def rows(power: float, start: float) -> list[dict[str, float]]:
        return [
            {"size": s, "ms": start * s**power, "mib": 1.0 + s, "macs": s**power}
            for s in (8, 16, 32, 64)
        ]

    values = {
        "over": "frames",
        "other": 112,
        "model": "lcr_nano",
        "clock": "CPU",
        "rows": {"LCR": rows(1.0, 20.0), "joint attention": rows(2.0, 1.0)},
    }
    found, blocks = complexity._scaling(values)
    text = " ".join(found)
    assert "LCR: time grows with frames to the power 1.00" in text
    assert "joint attention: time grows with frames to the power 2.00" in text
    assert "from about 20 frames on" in text
    assert len(blocks) == 3
    captions = [block.caption for block in complexity._scaling({**values, "clock": "wall"})[1]]
    assert captions[0] == "wall ms a clip over frames."
    assert captions[2].startswith("Least wall time of a clip")
