"""The training loop: `train(recipe, manifest, out)`. B batch, T frames, K classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videorwkv.data import Manifest
from videorwkv.errors import ConfigError
from videorwkv.inference.baselines import Baseline
from videorwkv.run.pretrained import Pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import read_run
from videorwkv.training.compare import compare
from videorwkv.training.distributed import require_same
from videorwkv.training.lock import locked
from videorwkv.training.loggers import Logger, Loggers, choose
from videorwkv.training.loggers.jsonl import best_validation
from videorwkv.training.monitor import Monitor, Unheard
from videorwkv.training.setup import (
    checkpoint_in,
    resolve_init,
    resolve_recipe,
    taught,
    write_config,
)
from videorwkv.training.state import load_state, most_bytes
from videorwkv.training.trainer import Trainer
from videorwkv.utils.device import pick_device
from videorwkv.utils.interrupt import Interrupts
from videorwkv.utils.processes import connected


@dataclass(frozen=True)
class TrainResult:
    """How a training run ended.

    Args:
        folder: the run's folder; `load_run(folder)` reads it.
        step: steps taken in all.
        total_steps: steps of the whole run; fewer were taken if it was interrupted, or ended early
            for lack of a better validation (`patience`).
        interrupted: Ctrl-C or a signal that does the same stopped it; the folder can be resumed.
        best_top1: best top-1 on the validation split; None without one.
        bad: clips that could not be read -> why; training skipped them, validation counted them as
            wrong.
        baselines: how well methods without a network do on the validation split; empty where they
            were not asked for, or could not be scored.
        best: what the validation that chose `best` measured, as in log.jsonl; None without one.
    """

    folder: Path
    step: int
    total_steps: int
    interrupted: bool
    best_top1: float | None
    bad: Mapping[str, str]
    baselines: tuple[Baseline, ...] = ()
    best: Mapping[str, Any] | None = None


def train(
    recipe: Recipe | None,
    manifest: Manifest,
    out: str | Path,
    *,
    init: str | Path | Pretrained | None = None,
    resume: bool = False,
    device: str | torch.device = "auto",
    cache: str | Path | None = None,
    on_step: Callable[[int], None] | None = None,
    on_validation: Callable[[int, Any], None] | None = None,
    quiet: bool = False,
    baselines: bool = False,
    log: str | Sequence[str | Logger] | None = None,
) -> TrainResult:
    """Train a model on the `train` split of a data set and keep it in the folder `out`.

    The weights after N steps depend on the recipe and the data alone: a run that is stopped and
    resumed ends with the same ones. The `validation` split, if there is one, chooses `best`; the
    `test` split is never looked at. SIGTERM, SIGHUP and SIGUSR1 do what Ctrl-C does: a checkpoint
    is written, and the function returns. Another training into the same folder is refused.

    Args:
        recipe: everything of the run; None takes that of the run to resume.
        manifest: the data set; its labels become the model's classes.
        out: the run's folder; must hold no run unless `resume`.
        init: weights to start from, of a run or a safetensors file: every tensor that fits by name
            and shape, of the classifier the rows of labels that both know. Where a run is resumed,
            only to say that they are the same ones.
        resume: go on from the last checkpoint in `out`; where there is none, begin.
        device: `auto`, or a device by name.
        cache: folder that keeps decoded, resized frames.
        on_step: called with the number of steps taken, after each.
        on_validation: called with the number of steps taken and the evaluation (an `Evaluation`,
            with `timeline` a `TimelineEvaluation`), after each validation and its checkpoint.
        quiet: print nothing.
        baselines: after the last step, also score baselines without a network on the `validation`
            split, and say how the model compares.
        log: where curves go beside log.jsonl: `tensorboard`, `wandb`, `trackio`, `mlflow`, or
            loggers of one's own (`videorwkv.training.loggers.Logger`). One that fails is told of
            and left alone. None: those of the run to resume, else TensorBoard.

    Raises:
        UsageError: `out` holds a run already or is in use, or the one to resume was another;
            nothing of `init` fits, or it can't be found; an unknown logger, or one whose library
            is not installed.
        DataError: nothing to train on, or not one clip can be read.
        NonFiniteError: a loss or gradient is NaN or infinite; the message names the module.
        CheckpointError: a checkpoint can't be written or read; the one before is untouched.
    """
    folder = Path(out)
    with (
        connected(device) as processes,
        locked(folder, processes),
        Interrupts() as interrupts,
        Loggers() as loggers,
    ):
        manifest = processes.each(lambda: taught(recipe, manifest, folder, resume=resume))
        recipe, begun = processes.first(
            lambda: (
                resolve_recipe(recipe, manifest, folder, resume=resume),
                bool(checkpoint_in(folder)),
            )
        )
        require_same(processes, recipe, manifest)
        chosen: dict[str, Logger] = {}
        processes.first(lambda: chosen.update(choose(log, folder, resume=resume)))
        pretrained = processes.first(lambda: resolve_init(init, recipe, folder, resume=resume))
        trainer = Trainer(
            recipe,
            manifest,
            folder,
            pick_device(processes.device(device)),
            cache,
            pretrained,
            processes,
            begun=begun,
        )
        if begun:
            most = most_bytes(trainer.learner.model)
            trainer.load(processes.first(lambda: load_state(folder, most=most)))
        elif processes.is_first:
            write_config(recipe, manifest, folder, trainer.fit)
        make_monitor = Monitor if processes.is_first else Unheard
        with (
            closing(trainer.loader),
            make_monitor(
                folder,
                step=trainer.step,
                total_steps=trainer.total_steps,
                quiet=quiet,
                loggers=loggers,
            ) as monitor,
        ):
            if processes.is_first:
                loggers.begin(chosen, read_run(folder), trainer.step, monitor.logger_failed)
            trainer.announce(monitor)
            try:
                trainer.run(monitor, interrupts, on_step, on_validation)
                interrupted = False
            except torch.OutOfMemoryError as error:
                raise ConfigError(
                    f"Step {trainer.step}: {trainer.device} is out of memory with batch_size "
                    f"{recipe.batch_size}. Take a smaller --batch-size, a larger --accumulate, "
                    "fewer frames or a smaller model, and another --out."
                ) from error
            except KeyboardInterrupt:
                interrupted = True
                interrupts.heard()
                with interrupts.deferred():
                    trainer.save()
                monitor.say(
                    f"Interrupted after {trainer.step} of {trainer.total_steps} steps; "
                    f"{folder} can be resumed."
                )
            monitor.bad_clips(trainer.step, len(trainer.bad), trainer.num_clips)
        loggers.finished = not interrupted
        best_top1 = trainer.best_top1()
        found: tuple[Baseline, ...] = ()
        if baselines and trainer.recipe.timeline:
            monitor.say("note: baselines without a network are for clips, and none were scored.")
        elif baselines and not interrupted and processes.is_first:
            try:
                found = compare(
                    manifest, trainer.validation, monitor, step=trainer.step, best_top1=best_top1,
                    unreadable=trainer.bad, clip_timeout=recipe.clip_timeout, quiet=quiet,
                )  # fmt: skip
            except KeyboardInterrupt:
                interrupted = True
                interrupts.heard()
                monitor.say(f"Baselines interrupted; the run in {folder} is complete without them.")
    return TrainResult(
        folder=folder,
        step=trainer.step,
        total_steps=trainer.total_steps,
        interrupted=interrupted,
        best_top1=best_top1,
        bad=dict(trainer.bad),
        baselines=found,
        best=best_validation(folder) if processes.is_first else None,
    )
