from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import vrwkv6_weights

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.models import LCR, build_model
from videorwkv.run.pretrained import Pretrained, load_pretrained, read_pretrained
from videorwkv.run.run import save_weights

LABELS = ("a", "b", "c", "d", "e")


def donor(**changes: Any) -> Pretrained:
    config = replace(tiny_models.SMALL, **changes)
    model = tiny_models.make_model(config, seed=1)
    return Pretrained("runs/old", "0" * 64, model.state_dict(), config, LABELS)


def fresh(**changes: Any) -> LCR:
    torch.manual_seed(2)
    return build_model(replace(tiny_models.SMALL, **changes))


def test_the_same_model_is_taken_over_whole() -> None:
    given, model = donor(), fresh()
    fit = load_pretrained(model, given, LABELS)
    torch.testing.assert_close(model.state_dict(), dict(given.weights), rtol=0, atol=0)
    assert (fit.anew, fit.unused) == ({}, ())
    assert fit.parameters[0] == fit.parameters[1] > 1000
    assert "at random" not in fit.summary()


def test_rows_of_the_classifier_go_by_label() -> None:
    given, model = donor(), fresh(num_classes=4)
    before = model.head.weight.clone(), model.head.bias.clone()
    fit = load_pretrained(model, given, ("x", "d", "y", "a"))
    for mine, theirs in ((1, 3), (3, 0)):
        assert torch.equal(model.head.weight[mine], given.weights["head.weight"][theirs])
        assert torch.equal(model.head.bias[mine], given.weights["head.bias"][theirs])
    for mine in (0, 2):
        assert torch.equal(model.head.weight[mine], before[0][mine])
        assert torch.equal(model.head.bias[mine], before[1][mine])
    assert fit.classes == ("d", "a")
    assert "the classifier knows 2 of 4 labels" in fit.summary()


@pytest.mark.parametrize("labels", [None, ("v", "w")])
def test_a_classifier_without_labels_in_common_starts_anew(
    labels: tuple[str, ...] | None,
) -> None:
    given, model = replace(donor(), labels=labels), fresh()
    before = model.head.weight.clone()
    fit = load_pretrained(model, given, LABELS)
    assert torch.equal(model.head.weight, before)
    assert fit.classes == ()
    assert "knows 0 of 5 labels" in fit.summary()


def test_more_labels_than_rows_are_no_classifier() -> None:
    given, model = replace(donor(), labels=(*LABELS, "f")), fresh(num_classes=6)
    before = model.head.weight.clone()
    assert load_pretrained(model, given, (*LABELS, "f")).classes == ()
    assert torch.equal(model.head.weight, before)


def test_what_does_not_fit_is_named_and_stays() -> None:
    given, model = donor(depth=3), fresh(stem_frames=1, cell="none")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit = load_pretrained(model, given, LABELS)
    assert fit.anew["stem.layers.0.weight"] == "[8, 6, 3, 3] there, [8, 3, 3, 3] here"
    assert "layers.2.output.weight" in fit.unused
    assert "layers.0.forget_rate" in fit.unused
    for name, value in model.state_dict().items():
        wanted = before[name] if name in fit.anew else given.weights[name]
        assert torch.equal(value, wanted), name
    # The features of a model without memory are half as wide.
    assert "head.weight" in fit.anew
    assert "knows 0 of 5" in fit.summary()
    assert "\n" not in fit.summary()
    assert "more" in fit.summary()  # a long list is cut


def test_another_width_is_refused() -> None:
    with pytest.raises(UsageError, match=r"No layer of runs/old.*width 16 there, 32 here.*--model"):
        load_pretrained(fresh(width=32), donor(), LABELS)


def test_half_precision_becomes_the_models() -> None:
    given, model = donor(), fresh()
    half = {k: v.half() if v.is_floating_point() else v for k, v in given.weights.items()}
    load_pretrained(model, replace(given, weights=half), LABELS)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    torch.testing.assert_close(
        model.head.weight, given.weights["head.weight"], rtol=1e-3, atol=1e-3
    )


def test_a_bare_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(donor().weights, path)
    found = read_pretrained(path)
    assert (found.config, found.labels, found.source) == (None, None, str(path))
    assert len(found.sha256) == 64
    fit = load_pretrained(fresh(), found, LABELS)
    assert set(fit.anew) == {"head.weight", "head.bias"}


def test_what_holds_no_weights(tmp_path: Path) -> None:
    for name in ("a.pth", "a.pt", "a.ckpt"):
        (tmp_path / name).write_bytes(b"\x80\x02")
        with pytest.raises(UsageError, match=r"can run code.*save_file"):
            read_pretrained(tmp_path / name)
    with pytest.raises(UsageError, match="No weights at"):
        read_pretrained(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="No run at"):
        read_pretrained(tmp_path / "none")
    (tmp_path / "b.safetensors").write_bytes(b"text" * 50)
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        read_pretrained(tmp_path / "b.safetensors")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    weights = {name: value.clone() for name, value in donor().weights.items()}
    weights["layers.1.output.weight"][0, 0] = float("nan")
    save_weights(weights, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.1\.output\.weight.*NaN or infinity"):
        read_pretrained(tmp_path / "w.safetensors")


def checkpoint(path: Path, **more: Any) -> Path:
    """As it is distributed: what the training program noted beside the state dict."""
    state = vrwkv6_weights.state_dict(**vrwkv6_weights.SMALL)
    meta = {"epoch": 300, "mmcls_version": "0.25.0", "time": "today"}
    torch.save({"meta": meta, "state_dict": state, **more}, path)
    return path


def test_a_checkpoint_of_vision_rwkv(tmp_path: Path) -> None:
    source = f"vrwkv6:{checkpoint(tmp_path / 'vrwkv6.pth')}"
    found = read_pretrained(source)
    assert found.config is not None
    assert (found.source, found.labels) == (source, None)
    model = build_model(replace(found.config, num_classes=5))
    fit = load_pretrained(model, found, LABELS)
    assert fit.parameters[0] / fit.parameters[1] > 0.85
    assert "layers.0.att.time_decay_w1" in fit.unused
    assert "left out, as the model lacks it" in fit.summary()
    # Another size of pictures: all but the table of positions.
    other = build_model(replace(found.config, num_classes=5, image_size=64))
    assert load_pretrained(other, found, LABELS).taken == fit.taken


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_reading_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path / "hostile.pth", hooks=_Runs())
    with pytest.raises(CheckpointError, match="tensors and plain values"):
        read_pretrained(f"vrwkv6:{path}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut", b"text" * 100])
def test_a_checkpoint_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth can't be read"):
        read_pretrained(f"vrwkv6:{path}")


def test_a_checkpoint_of_another_kind(tmp_path: Path) -> None:
    for value, said in (([1, 2], "no state dict"), ({"a": torch.ones(1)}, "no weights of VRWKV6")):
        torch.save(value, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=said):
            read_pretrained(f"vrwkv6:{tmp_path / 'a.pth'}")
    with pytest.raises(UsageError, match="No file at"):
        read_pretrained("vrwkv6:none.pth")


def test_positions_of_another_grid_are_resized() -> None:
    given, model = donor(position="learned"), fresh(position="learned", image_size=40)
    fit = load_pretrained(model, given, LABELS)
    assert "position" in fit.taken
    assert model.position.shape == (1, 16, 5, 5)
    small = given.weights["position"]
    # Bicubic: the middle stays the middle, and it is no constant.
    torch.testing.assert_close(model.position[..., 2, 2], small[..., 1, 1], rtol=0, atol=1e-5)
    assert float(model.position.detach().std()) > 0.01
