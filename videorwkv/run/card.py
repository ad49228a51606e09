"""The model card of a run: README.md of its repository, written from what the run knows.

Nothing is made up: what a run does not know (an older one its machine, any one the licence of its
data) is said not to be known. K classes, N clips.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videorwkv.errors import ConfigError
from videorwkv.models import LCR, list_models
from videorwkv.run import recipes
from videorwkv.run.run import Run
from videorwkv.utils.interval import interval
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.values import read_json
from videorwkv.utils.words import counted

PAPER = "https://arxiv.org/abs/2411.05636"
# Labels that are shown; config.json has all.
SHOWN_LABELS = 40
NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a model card says that no run knows.

    Args:
        repo: `owner/name` of the repository; empty: not decided yet.
        licence: of the weights, as the Hub writes it (`apache-2.0`, `cc-by-4.0`); empty: not
            stated.
        data_licence: of the data that it was trained on, in any words; empty: not stated.
        description: what the model is for, a paragraph of Markdown.
    """

    repo: str = ""
    licence: str = ""
    data_licence: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if self.licence and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.licence):
            raise ConfigError(
                f"licence {self.licence!r}: the Hub's short names are wanted, such as apache-2.0, "
                "mit, cc-by-4.0, cc-by-nc-4.0 or other."
            )


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One evaluation, as its evaluation.json or the run's log has it.

    Args:
        split: what was evaluated, such as `test` or `test, views 2x3`.
        top1, top5: fractions; top5 is None where all clips are among five classes or fewer.
        clips: N, unreadable ones included, which count as wrong.
        baseline: the best baseline without a network on the same clips; None: not scored.
        data: name of the data set.
    """

    split: str
    top1: float
    top5: float | None
    clips: int
    baseline: float | None = None
    data: str = ""


def write_card(run: Run, model: LCR, facts: Facts, accuracies: Iterable[Accuracy]) -> str:
    """The card, Markdown behind YAML.

    Args:
        run: what is shared.
        model: its model, whose parameters are counted.
        facts: what the user states.
        accuracies: as `accuracies` finds them; none where the weights are no longer the run's.
    """
    found = list(accuracies)
    parts = (
        _metadata(run, facts, found),
        _introduction(run, model, facts),
        _use(facts),
        _labels(run),
        _accuracy(run, found),
        _training(run),
        _licence(facts),
        _limits(run, found),
    )
    return "\n".join("\n".join(part) for part in parts)


def accuracies(run: Run) -> list[Accuracy]:
    """The evaluations beside the weights, and the validation that chose them; test splits first."""
    found = []
    kind = "-last" if run.results("x").name.endswith("-last") else ""
    for file in sorted(run.outputs.glob("evaluation-*/evaluation.json")):
        name = file.parent.name.removeprefix("evaluation-")
        if name.endswith("-mask") or "-mask-" in name or ("-last" in name) != bool(kind):
            continue  # of masked patches, or of the other weights
        split, _, views = name.replace("-last", "").partition("-views-")
        try:
            values = read_json(file)
            scored = [max(x["nearest"], x["ridge"]) for x in values.get("baselines", ())]
            one = Accuracy(
                split=f"{split}, views {views}" if views else split,
                top1=float(values["top1"]),
                top5=None if values["top5"] is None else float(values["top5"]),
                clips=int(values["n_total"]),
                baseline=max(scored, default=None),
                data=str((values.get("data") or {}).get("name", "")),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a result that can't be read is none; the weights are what is shared
        if one.clips > 0 and 0 <= one.top1 <= 1:
            found.append(one)
    found.sort(key=lambda one: (not one.split.startswith("test"), one.split))
    logged = None if kind else _from_log(run)
    if logged is not None and not any(one.split == "validation" for one in found):
        found.append(logged)
    return found


def _from_log(run: Run) -> Accuracy | None:
    """The validation that chose the weights; None of a timeline, whose files are no clips."""
    if run.recipe.timeline:
        return None
    best, baseline = None, None
    try:
        lines = (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        for entry in map(json.loads, lines):
            if entry["kind"] == "validation" and entry["best"]:
                best = entry
            if entry["kind"] == "baselines":
                baseline = max(max(x["nearest"], x["ridge"]) for x in entry["baselines"])
        if best is None or best["n_total"] < 1:
            return None
        return Accuracy(
            split="validation", top1=best["top1"], clips=best["n_total"],
            top5=best["top5"] if len(run.labels) > 5 else None,
            baseline=baseline, data=run.data["name"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def command(run: Run) -> str:
    """A command that trains with the same recipe, whatever it was called by; DATA is the data set.

    Empty where no command line says it, as for a recipe in Python with an option of its own.
    """
    several = run.recipe.model.multilabel
    wanted = _without_data(run.recipe, several)
    best: list[str] | None = None
    for name in recipes.RECIPES.keys() - recipes.FROM_WEIGHTS.keys():
        for preset in (None, *list_models("lcr_*")):
            base = recipes.recipe(name)
            words = ["videorwkv", "train", "DATA", "--recipe", name]
            if preset is not None:
                base = recipes.with_model(base, preset)
                words += ["--model", preset]
            # To name one of epochs and steps clears the other.
            changed = _differences(_without_data(base, several), wanted)
            assignments = [x for x in changed if x not in ("epochs=none", "steps=none")]
            try:
                made = recipes.apply_overrides(base, assignments)
            except ConfigError:
                continue
            if _without_data(made, several) != wanted:
                continue
            words += [word for one in assignments for word in ("--set", one)]
            if best is None or (len(words), words) < (len(best), best):
                best = words
    if best is None:
        return ""
    return shlex.join([*best, *(["--init", str(run.init["source"])] if run.init else [])])


def _without_data(recipe: recipes.Recipe, several: bool) -> recipes.Recipe:
    """The recipe without what `train` takes from the data (`several` labels a clip) and the
    sampling."""
    if several:
        recipe = replace(recipe, label_smoothing=0.0, best_by="top1")
    model = replace(recipe.model, num_classes=1, num_frames=1, multilabel=False)
    return replace(recipe, model=model)


def _differences(base: recipes.Recipe, wanted: recipes.Recipe) -> Iterator[str]:
    def walk(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for key, value in new.items():
            if isinstance(value, Mapping):
                yield from walk(old[key], value, f"{prefix}{key}.")
            elif value != old[key]:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                kept = isinstance(value, str | list)
                yield f"{prefix}{key}={text if kept else text.lower()}"

    old, new = (dataclass_to_dict(recipe) for recipe in (base, wanted))
    return walk(old, new, "")


def _metadata(run: Run, facts: Facts, found: list[Accuracy]) -> list[str]:
    """YAML that the Hub reads. Every value is JSON, which is YAML, so no label can break it."""
    values: dict[str, Any] = {
        "library_name": "videorwkv",
        "pipeline_tag": "video-classification",
        "tags": ["videorwkv", "video-classification", "action-recognition", "rwkv"],
    }
    if facts.licence:
        values["license"] = facts.licence
    if found:
        best = found[0]
        result = {
            "task": {"type": "video-classification", "name": "Video Classification"},
            "dataset": {
                "name": f"{best.data or run.data['name']} ({best.split})",
                "type": _plain(best.data or run.data["name"]),
            },
            "metrics": [{"type": "accuracy", "name": _top1_of(run), "value": round(best.top1, 4)}],
        }
        name = facts.repo.rpartition("/")[2] or "LCR"
        values["model-index"] = [{"name": name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return ["---", *lines, "---", ""]


def _top1_of(run: Run) -> str:
    return "best class right" if run.recipe.model.multilabel else "top-1"


def _introduction(run: Run, model: LCR, facts: Facts) -> list[str]:
    config = run.recipe.model
    million = sum(p.numel() for p in model.parameters()) / 1e6
    edges = "" if config.edges == "none" else f" and an edge map of each ({config.edges})"
    sampling = run.recipe.sampling
    if sampling.fps is None:
        which = "spread evenly over the video"
    else:
        which = f"at {sampling.fps:g} frames a second, from the middle of the video"
    fit = "the largest centred square" if config.frame_fit == "crop" else "the whole frame"
    views = run.recipe.views
    title = facts.repo.rpartition("/")[2] or "LCR"
    return [
        f"# {title}: {counted(len(run.labels), 'action')} in video",
        "",
        *([facts.description.strip(), ""] if facts.description.strip() else []),
        f"An [LSTM-CrossRWKV]({PAPER}) model of {million:.2f} M parameters, made with videorwkv. "
        "It is recurrent: it labels a clip, or a stream frame by frame in constant memory.",
        "",
        f"It reads {counted(sampling.num_frames, 'frame')} {which}, {fit} at "
        f"{config.image_size} px{edges}. "
        + (f"Scores are averaged over {views[0]} x {views[1]} views. " if views != (1, 1) else "")
        + "`config.json` has all of this, so that nothing needs to be set.",
        "",
    ]


def _use(facts: Facts) -> list[str]:
    repo = facts.repo or "OWNER/NAME"
    return [
        "## How to use it",
        "",
        "With videorwkv and its extra `hub` installed:",
        "",
        "```bash",
        f"videorwkv predict hf:{repo} clip.mp4",
        f"videorwkv stream hf:{repo} 0            # live, from the first camera",
        f"videorwkv train DATA --init hf:{repo}   # fine-tune on your own clips",
        "```",
        "",
        "```python",
        "import videorwkv",
        "",
        f'model = videorwkv.LCR.from_pretrained("{repo}")',
        'print(videorwkv.predict("clip.mp4", model=model)[0].label)',
        "```",
        "",
        "In transformers, with the extra `transformers`:",
        "",
        "```python",
        "import videorwkv.inference.transformers  # registers the model",
        "from transformers import pipeline",
        "",
        f'print(pipeline("video-classification", model="{repo}")("clip.mp4"))',
        "```",
        "",
    ]


def _labels(run: Run) -> list[str]:
    shown = ", ".join(map(_escaped, run.labels[:SHOWN_LABELS]))
    more = len(run.labels) - SHOWN_LABELS
    return [
        "## Labels",
        "",
        # Behind words, as a label that begins with a dash would begin a list.
        "In the order of the logits: "
        + shown
        + (f", and {more:,} more in `config.json`." if more > 0 else "."),
        "",
    ]


def _accuracy(run: Run, found: list[Accuracy]) -> list[str]:
    lines = ["## Accuracy", ""]
    if not found and run.recipe.timeline:
        return [
            *lines,
            "Not stated here: it was trained to find segments, which `videorwkv evaluate RUN DATA "
            "--timeline` scores.",
            "",
        ]
    if not found:
        return [*lines, "Not measured, or not recorded for these weights.", ""]
    several = run.recipe.model.multilabel
    lines += [
        f"| split | clips | {_top1_of(run)} (95 % interval) | top-5 | "
        "best baseline without a network |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        low, high = interval(round(one.top1 * one.clips), one.clips)
        baseline = "not scored" if one.baseline is None else f"{one.baseline:.3f}"
        split = _escaped(f"{one.data}: {one.split}" if one.data else one.split)
        lines.append(
            f"| {split} | {one.clips:,} | {one.top1:.3f} ({low:.3f} to {high:.3f}) | "
            f"{'-' if one.top5 is None else format(one.top5, '.3f')} | {baseline} |"
        )
    chance = f"Chance is {1 / len(run.labels):.3f}, if all classes are as frequent. "
    if several:
        chance = "Clips have several labels; it is enough that the best class is one of them. "
    lines += [
        "",
        f"{chance}A clip that can't be read counts as wrong. The interval (exact, Clopper and "
        "Pearson) is about the choice of the clips alone: another seed, place or camera can change "
        "more.",
    ]
    if any(one.split.startswith("validation") for one in found):
        lines.append("The validation split chose the weights, so its figure is optimistic.")
    return [*lines, ""]


def _training(run: Run) -> list[str]:
    data, versions = run.data, run.versions
    splits = data.get("splits") or {}
    sizes = ", ".join(f"{_escaped(name or 'undecided')} {n:,}" for name, n in splits.items())
    rows = [
        ("data set", _escaped(data["name"])),
        ("hash of the data set", f"`{data['digest']}`" if data["digest"] else ""),
        ("clips", sizes),
        ("seed", str(run.recipe.seed)),
        ("precision", run.recipe.precision),
        ("started from", "" if run.init is None else _escaped(str(run.init["source"]))),
        ("machine", _escaped(str(versions.get("machine") or ""))),
        *((name, str(versions.get(name) or "")) for name in ("videorwkv", "commit", "torch")),
    ]
    lines = ["## Training", "", "| what | value |", "|---|---|"]
    for name, value in rows:
        if value or name != "started from":
            lines.append(f"| {name} | {value or 'not recorded'} |")
    told = command(run) if data["digest"] else ""
    if told:
        lines += [
            "",
            "A command that trains with the same recipe:",
            "",
            "```bash",
            told,
            "```",
        ]
    return [*lines, ""]


def _licence(facts: Facts) -> list[str]:
    return [
        "## Licence",
        "",
        f"- Of the weights: {facts.licence or NOT_STATED}.",
        f"- Of the data that they were trained on: {_escaped(facts.data_licence) or NOT_STATED}. "
        "It may limit what the weights may be used for.",
        "",
    ]


def _limits(run: Run, found: list[Accuracy]) -> list[str]:
    named = "It names one of its labels for every clip, also where none of them is shown."
    if run.recipe.model.multilabel:
        named = "It gives each label a probability of its own; a clip may have several, or none."
    where = "It labels trimmed clips and does not say where in a video an action is."
    if run.recipe.timeline:
        named = "Its class `background` stands for everything else, as far as that was in its data."
        where = "It was trained on long videos: `videorwkv predict ... --timeline` says when."
    lines = [
        "## Limits",
        "",
        f"- {named}",
        f"- {where}",
        "- It knows what its training clips show. Other people, places, cameras and speeds can "
        "cost accuracy: evaluate it on your own clips (`videorwkv evaluate ... --baselines`).",
    ]
    train = (run.data.get("splits") or {}).get("train")
    if train is not None and train < 1000:
        lines.append(f"- It was trained on {counted(train, 'clip')}, which is few.")
    losing = [x for x in found if x.baseline is not None and x.top1 <= x.baseline]
    if losing:
        lines.append(
            "- **It is no better than a baseline without a network** on "
            + ", ".join(_escaped(x.split) for x in losing)
            + "."
        )
    if run.flips is None:
        lines.append("- It was not trained on mirrored clips.")
    lines.append("- Decisions about people should not rest on it.")
    return [*lines, ""]


def _escaped(text: str) -> str:
    """Text that Markdown, HTML and a table show as it is, in one line."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", one_line)


def _plain(text: str) -> str:
    """A name of letters, digits, dots and dashes, as the Hub wants it of a data set."""
    return re.sub(r"[^\w.-]+", "-", Path(text).name, flags=re.ASCII).strip("-") or "data"
