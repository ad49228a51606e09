"""The model card: true, readable by the Hub, and whole whatever the labels are called."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from videorwkv.cli.main import make_parser
from videorwkv.errors import ConfigError
from videorwkv.inference.metrics import Evaluation, Scored
from videorwkv.models.shipped import shipped_folder
from videorwkv.run import recipes
from videorwkv.run.card import Accuracy, Facts, accuracies, command, write_card
from videorwkv.run.choose import choose
from videorwkv.run.run import Run
from videorwkv.video.base import Sampling

DATA = {"name": "waving", "digest": "0123456789ab", "splits": {"train": 30, "validation": 8}}
HOSTILE = (
    "a|b",
    "`c`",
    "<script>alert(1)</script>",
    "- d\n---\nx: y",
    '"e": [}',
)


def run(folder: Path, labels: tuple[str, ...] = ("a", "b", "c", "d", "e")) -> Run:
    recipe = recipes.Recipe(model=tiny_models.SMALL, steps=4)
    versions = {"videorwkv": "0.1.0", "torch": "2.13.0", "machine": "a CPU, 2 threads"}
    return Run(
        folder=folder, which="best", recipe=recipe, labels=labels, flips=None, data=DATA,
        versions=versions,
    )  # fmt: skip


def card(one: Run, facts: Facts | None = None, found: tuple[Accuracy, ...] = ()) -> str:
    return write_card(one, tiny_models.make_model(), facts or Facts(), found)


def test_it_says_what_is_known(tmp_path: Path) -> None:
    facts = Facts(
        repo="me/waving", licence="cc-by-4.0", data_licence="own clips", description="Waves."
    )
    found = Accuracy(split="test", top1=0.9, top5=1.0, clips=20, baseline=0.95, data="waving")
    text = card(run(tmp_path), facts, (found,))
    for part in (
        "# waving: 5 actions in video", "Waves.", "videorwkv predict hf:me/waving clip.mp4",
        "waving: test | 20 | 0.900 (0.683 to 0.988) | 1.000 | 0.950", "`0123456789ab`",
        "train 30, validation 8", "a CPU, 2 threads", "Of the weights: cc-by-4.0.",
        "trained on: own clips.", "no better than a baseline", "trained on 30 clips",
    ):  # fmt: skip
        assert part in text, part
    assert "not stated" not in text


def test_frames_of_a_timeline_are_no_clips(tmp_path: Path) -> None:
    plain = run(tmp_path)
    entry = {"kind": "validation", "best": True, "top1": 0.8, "top5": 1.0, "n_total": 2}
    (tmp_path / "log.jsonl").write_text(json.dumps(entry) + "\n")
    assert [one.top1 for one in accuracies(plain)] == [0.8]
    sampling = Sampling(num_frames=4, fps=4.0)
    when = replace(plain, recipe=replace(plain.recipe, timeline=True, sampling=sampling))
    assert accuracies(when) == []
    assert "it was trained to find segments" in card(when)
    assert "--timeline` says when" in card(when)


def test_of_several_labels_the_best_is_told(tmp_path: Path) -> None:
    plain = run(tmp_path)
    model = replace(plain.recipe.model, multilabel=True)
    several = replace(plain, recipe=replace(plain.recipe, model=model))
    text = card(several, found=(Accuracy(split="test", top1=0.9, top5=1.0, clips=20),))
    assert "top-1" not in text
    assert text.count("best class right") == 2
    assert "a clip may have several, or none" in text
    # As in the card of the weights that come with the package.
    shipped = (Path(shipped_folder("scenes") or "") / "README.md").read_text(encoding="utf-8")
    assert "top-1" not in shipped
    assert "a clip may have several, or none" in shipped


def test_it_says_what_is_not_known(tmp_path: Path) -> None:
    one = replace(run(tmp_path), data={"name": "not recorded", "digest": ""}, versions={})
    text = card(one)
    assert "Not measured, or not recorded" in text
    assert text.count("not recorded |") >= 4
    assert text.count("not stated") == 2
    assert "A command that trains" not in text
    assert "license" not in text.partition("\n---\n")[0]


@pytest.mark.parametrize("label", HOSTILE)
def test_no_label_breaks_it(tmp_path: Path, label: str) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is absent")
    markdown = pytest.importorskip("markdown_it").MarkdownIt().enable("table")
    one = replace(run(tmp_path, (label, "b", "c", "d", "e")), data={**DATA, "name": label})
    found = Accuracy(split=label, top1=0.5, top5=0.5, clips=10, data=label)
    text = card(one, found=(found,))
    start, front, body = text.split("---\n", 2)
    assert start == ""
    values = yaml.safe_load(front)
    result = values["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == f"{label} ({label})"
    assert result["metrics"] == [{"type": "accuracy", "name": "top-1", "value": 0.5}]
    tokens = markdown.parse(body)
    assert not [t for t in tokens if t.type == "html_block"]
    shown = [t.content for t in tokens if t.type == "inline"]
    plain = " ".join(label.split())
    texts = ["".join(c.content for c in t.children or ()) for t in tokens if t.type == "inline"]
    assert f"In the order of the logits: {plain}, b, c, d, e." in texts, shown
    # Tables keep their columns: a row of the accuracy has five cells.
    assert texts.count(f"{plain}: {plain}") == 1


def test_many_labels_are_cut(tmp_path: Path) -> None:
    labels = tuple(f"class {k}" for k in range(100))
    assert "class 39, and 60 more in `config.json`." in card(run(tmp_path, labels))


@pytest.mark.parametrize("licence", ["Apache 2.0", "MIT", "x\ny", "-"])
def test_a_licence_is_a_short_name(licence: str) -> None:
    with pytest.raises(ConfigError, match=r"short names are wanted, such as apache-2\.0"):
        Facts(licence=licence)


def made_by(text: str) -> recipes.Recipe:
    """What the real parser makes of a command."""
    options = make_parser().parse_args(shlex.split(text)[1:])
    base = recipes.recipe(options.recipe)
    if options.model:
        base = recipes.with_model(base, options.model)
    return recipes.apply_overrides(base, options.assignments)


def some_recipes() -> list[recipes.Recipe]:
    import tiny

    return [
        recipes.default(),
        recipes.default("lcr_nano"),
        recipes.motion_demo(),
        recipes.handwash(),
        recipes.finetune(),
        recipes.linear_probe(),
        choose(tiny.manifest())[0],
        tiny.recipe(clip_timeout=1.5, betas=(0.8, 0.9), views=(2, 1), freeze=("stem", "*.norm_*")),
    ]


@pytest.mark.parametrize("number", range(8))
def test_the_command_gives_the_recipe(tmp_path: Path, number: int) -> None:
    wanted = some_recipes()[number]
    trained = replace(wanted, model=replace(wanted.model, num_classes=7))
    text = command(replace(run(tmp_path), recipe=trained))
    assert text.startswith("videorwkv train DATA --recipe")
    made = made_by(text)
    model = replace(made.model, num_classes=7, num_frames=wanted.model.num_frames)
    assert replace(made, model=model) == trained


def test_a_short_command_for_a_known_recipe(tmp_path: Path) -> None:
    one = replace(run(tmp_path), recipe=recipes.handwash())
    assert command(one) == "videorwkv train DATA --recipe handwash"
    begun = replace(one, init={"source": "hf:me/large"})
    assert command(begun).endswith("--init hf:me/large")


def evaluation(folder: Path, name: str, top1: float) -> None:
    (folder / name).mkdir(parents=True)
    values = {"top1": top1, "top5": 1.0, "n_total": 8, "data": {"name": "waving"}}
    (folder / name / "evaluation.json").write_text(json.dumps(values))


def test_evaluations_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    for name, top1 in (
        ("evaluation-validation", 0.1),
        ("evaluation-test", 0.2),
        ("evaluation-test-views-2x3", 0.3),
        ("evaluation-test-last", 0.4),
        ("evaluation-test-tube-mask-0.5", 0.5),
        ("evaluation-test-last-motion-mask-0.5", 0.6),
    ):
        evaluation(tmp_path, name, top1)
    for broken in ("{", "[]", '{"top1": "x"}', '{"top1": 7, "top5": 1, "n_total": 3}'):
        (tmp_path / f"evaluation-{len(broken)}").mkdir()
        (tmp_path / f"evaluation-{len(broken)}" / "evaluation.json").write_text(broken)
    found = accuracies(run(tmp_path))
    assert [(x.split, x.top1) for x in found] == [
        ("test", 0.2), ("test, views 2x3", 0.3), ("validation", 0.1),
    ]  # fmt: skip
    last = accuracies(replace(run(tmp_path), which="last"))
    assert [(x.split, x.top1) for x in last] == [("test", 0.4)]


def test_the_validation_that_chose_the_weights(tmp_path: Path) -> None:
    entry = {"kind": "validation", "top1": 0.5, "top5": 1.0, "n_total": 8}
    other = {"kind": "baselines", "baselines": [{"nearest": 0.4, "ridge": 0.7}]}
    lines = [{**entry, "best": True}, {**entry, "best": False, "top1": 0.25}, other]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (found,) = accuracies(run(tmp_path))
    assert (found.split, found.top1, found.clips, found.baseline) == ("validation", 0.5, 8, 0.7)
    text = card(run(tmp_path), found=(found,))
    assert "chose the weights, so its figure is optimistic" in text


def test_an_evaluation_of_few_classes_has_no_top5(tmp_path: Path) -> None:
    """As `videorwkv evaluate` writes it; the test split must not be missing for that."""
    clips = tuple(Scored(f"{n}.mp4", "a", np.array([0.9, 0.1], np.float32)) for n in range(8))
    Evaluation(labels=("a", "b"), clips=clips, views=(1, 1)).save(tmp_path / "evaluation-test")
    entry = {"kind": "validation", "top1": 0.5, "top5": 1.0, "n_total": 8, "best": True}
    (tmp_path / "log.jsonl").write_text(json.dumps(entry))
    one = run(tmp_path, ("a", "b"))
    found = accuracies(one)
    assert [(x.split, x.top1, x.top5) for x in found] == [
        ("test", 1.0, None), ("validation", 0.5, None),
    ]  # fmt: skip
    assert "test | 8 | 1.000 (0.631 to 1.000) | - | not scored |" in card(one, found=tuple(found))
