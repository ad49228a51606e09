"""Weights that come with the package: what is there, and who starts from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.cli.main import main
from videorwkv.data.load import load_manifest
from videorwkv.data.motion.scenes import LABELS
from videorwkv.errors import UsageError
from videorwkv.models import create_model, model_config
from videorwkv.models.shipped import SHIPPED, shipped_folder, start_of
from videorwkv.run.choose import choose
from videorwkv.run.pretrained import read_pretrained
from videorwkv.run.run import read_run

MOST_BYTES = 8_000_000
SHORT = "gestures:train=4,validation=0,test=4,size=32"


def test_each_start_is_a_run_with_a_card_and_small() -> None:
    total = 0
    for name, preset in SHIPPED.items():
        folder = shipped_folder(name)
        assert folder is not None
        run = read_run(folder)
        assert start_of(run.recipe.model) == name
        assert run.recipe.model.width == model_config(preset).width
        assert run.labels == LABELS
        weights = load_file(folder / "model.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())
        assert "## Licence" in (folder / "README.md").read_text()
        total += sum(file.stat().st_size for file in folder.iterdir())
    assert total < MOST_BYTES


def test_a_model_with_other_weights_has_no_start() -> None:
    pico = model_config("lcr_pico", num_classes=5, frame_fit="stretch")
    assert start_of(pico) == "scenes"
    for other in (
        model_config("lcr_pico", stem_flow=True),
        model_config("lcr_pico", width=96),
        model_config("lcr_nano"),
    ):
        assert start_of(other) is None
    with pytest.raises(UsageError, match="No weights are shipped"):
        create_model("lcr_nano", pretrained=True)


def test_a_pretrained_model_has_the_shipped_weights_but_for_its_classifier() -> None:
    shipped = read_pretrained("scenes")
    torch.manual_seed(0)
    model = create_model("lcr_pico", num_classes=3, pretrained=True)
    torch.manual_seed(0)
    random = create_model("lcr_pico", num_classes=3)
    for name, tensor in model.state_dict().items():
        if name.startswith("head."):
            torch.testing.assert_close(tensor, random.state_dict()[name], rtol=0, atol=0)
        else:
            assert torch.equal(tensor, shipped.weights[name].to(tensor.dtype))


def test_short_clips_start_from_scenes_and_others_do_not() -> None:
    chosen = choose(load_manifest(SHORT))
    assert chosen.init == "scenes"
    assert "scenes" in chosen.why
    assert chosen.recipe.layer_decay < 1  # of `finetune`
    without = choose(load_manifest(SHORT), starts=False)
    assert without.init is None
    assert without.recipe.layer_decay == 1
    assert "scenes" not in without.why
    assert choose(load_manifest(SHORT), "lcr_pico").init is None  # a preset that is named
    assert choose(tiny.manifest()).init is None  # directions of movement: another stem


def train(out: Path, *options: str) -> list[str]:
    return ["train", SHORT, "--out", str(out), "--steps=1", "--batch-size=2", "--workers=0",
            "--no-baselines", "--log=jsonl", *options]  # fmt: skip


def test_train_starts_from_scenes_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path / "own")) == 0
    assert "from the weights that scenes have left" in capsys.readouterr().err
    run = read_run(tmp_path / "own")
    assert run.init is not None
    assert run.init["source"] == "scenes"
    assert not set(run.init["anew"]) - {"head.weight", "head.bias"}
    assert main(train(tmp_path / "named", "--init=scenes")) == 0
    one, other = (load_file(tmp_path / x / "last.safetensors") for x in ("own", "named"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    # It is repeated and resumed like any other.
    again = ["train", "--config", str(tmp_path / "own/run.toml"), "--out", str(tmp_path / "two")]
    assert main([*again, "--no-baselines", "--log=jsonl"]) == 0
    other = load_file(tmp_path / "two/last.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert main([*train(tmp_path / "own"), "--resume"]) == 0
    capsys.readouterr()
    assert main([*train(tmp_path / "own"), "--resume", "--init=none"]) == 2
    assert "started from those of scenes, not from none" in capsys.readouterr().err
    # Where the package lies is nobody's business.
    assert "weights/scenes" not in (tmp_path / "own/config.json").read_text()


@pytest.mark.parametrize("option", ["--init=none", "--set=model.width=32", "--model=lcr_pico"])
def test_random_weights_are_to_be_had(tmp_path: Path, option: str) -> None:
    assert main(train(tmp_path / "run", option)) == 0
    assert read_run(tmp_path / "run").init is None
