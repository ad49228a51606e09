"""After the last step: does the model beat baselines without a network?"""

from __future__ import annotations

from collections.abc import Container
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from videorwkv.data import Manifest
from videorwkv.errors import ConfigError, DataError
from videorwkv.inference.baselines import Baseline, baselines, some_clips
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.monitor import Monitor
from videorwkv.utils.interval import interval_text
from videorwkv.utils.options import dataclass_from_dict
from videorwkv.utils.progress import Meter

# Clips that the baselines learn from and are scored on, at most: one process reads them.
TRAIN_LIMIT, VALIDATION_LIMIT = 2000, 1000


def compare(
    manifest: Manifest,
    validation: Manifest | None,
    monitor: Monitor,
    *,
    step: int,
    best_top1: float | None,
    unreadable: Container[str],
    clip_timeout: float,
    quiet: bool,
) -> tuple[Baseline, ...]:
    """Score the baselines, once for a run, and say how the model compares.

    Args:
        manifest: the data set; the baselines learn from its `train` split.
        validation: the clips that they are scored on; None where there are none.
        monitor: of the run; its log keeps the result.
        step: steps that the model has taken.
        best_top1: the model's best accuracy on `validation`.
        unreadable: paths of clips that training could not read.
        clip_timeout: seconds for reading a clip, as in the recipe.
        quiet: show no progress.
    """
    if manifest.multilabel:
        monitor.say("note: the baselines name one class a clip, and clips have several labels")
        return ()
    if validation is None or best_top1 is None:
        monitor.say(
            "note: no validation split to compare the model with baselines on; `videorwkv evaluate "
            "RUN DATA --split test --baselines` does it on the test split."
        )
        return ()
    log = read_log(monitor.log_path)
    scored = scored_before(log)
    if scored is not None:  # a run that was resumed after its end
        found, count = list(scored.baselines), scored.validation
    else:
        train = manifest.split("train")
        known, asked = some_clips(train, TRAIN_LIMIT), some_clips(validation, VALIDATION_LIMIT)
        meter = nullcontext() if quiet else Meter("baselines", len(known) + len(asked), "clips")
        try:
            with meter as shown:
                on_clip = None if shown is None else shown.update
                found = baselines(
                    known, asked, on_clip, unreadable=unreadable, clip_timeout=clip_timeout
                )
        except DataError as error:
            monitor.say(f"note: the model is not compared with baselines. {error}")
            return ()
        count = len(asked)
        monitor.baselines(step, found, train=len(known), validation=count)
        if len(known) == TRAIN_LIMIT or len(asked) == VALIDATION_LIMIT:
            monitor.say(
                f"note: the baselines learn from {len(known):,} of {len(train):,} training clips "
                f"and are scored on {len(asked):,} of {len(validation):,} validation clips, spread "
                "evenly over the classes; the model is scored on all of them"
            )
    last = [f", last {e['top1']:.4f}" for e in log if e["kind"] == "validation"]
    total = sum(row.label is not None for row in validation.rows)
    sure = interval_text(round(best_top1 * total), total)
    monitor.say(f"validation top-1: model best {best_top1:.4f} ({sure}){last[-1] if last else ''}")
    for baseline in found:
        monitor.say(f"validation top-1: {baseline.summary()}")
    best = max(found, key=lambda baseline: baseline.best)
    if verdict := _verdict(best_top1, best, count):
        monitor.say(verdict)
    return tuple(found)


@dataclass(frozen=True)
class Scored:
    """Baselines in a log, and the number of clips that they were scored on."""

    baselines: tuple[Baseline, ...]
    validation: int


def scored_before(log: list[dict[str, Any]]) -> Scored | None:
    """The baselines that a run's `log.jsonl` has; None where none were scored."""
    for entry in log:
        if entry["kind"] == "baselines":
            with suppress(ConfigError):
                scored = dataclass_from_dict(
                    Scored, {name: entry.get(name) for name in ("baselines", "validation")}
                )
                if scored.baselines and scored.validation > 0:
                    return scored
    return None


def _verdict(top1: float, best: Baseline, count: int) -> str:
    """What to say of a model beside the best baseline on `count` clips; nothing where it wins."""
    against = f"the best baseline ({best.name}, {best.best:.4f})"
    if min(top1, best.best) == 1:
        return (
            f"The model and {against} are both perfect: these clips cannot tell them apart. "
            "Compare them on others."
        )
    lead = round((top1 - best.best) * count)
    if lead > 1:
        return ""
    if lead == 0:
        what = f"The model is no better than {against}"
    elif abs(lead) == 1:
        what = f"The model is no better than {against}, as one of {count:,} clips is no difference"
    else:
        what = f"The model is worse than {against} by {-lead:,} of {count:,} clips"
    return (
        f"{what}: it has not learnt more than a few lines without a network see. Before you use "
        "it, train anew with more --steps and another --out, or with other options; "
        "docs/training.md says what to try."
    )
