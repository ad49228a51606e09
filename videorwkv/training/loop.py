"""The training loop: `train(recipe, manifest, out)`. B batch, T frames, K classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videorwkv.data import Batch, Manifest
from videorwkv.data.dataset import BadClip
from videorwkv.errors import ConfigError, DataError
from videorwkv.inference.baselines import Baseline
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.metrics import Evaluation
from videorwkv.models import build_model
from videorwkv.models.pretrained_stem import load_stem_weights, stem_weight_names
from videorwkv.run.pretrained import Fit, Pretrained, load_pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import save_weights
from videorwkv.training.compare import compare
from videorwkv.training.diagnostics import DiagnosticsMonitor
from videorwkv.training.distributed import require_same
from videorwkv.training.freeze import freeze
from videorwkv.training.learner import Learner, class_weights
from videorwkv.training.lock import locked
from videorwkv.training.monitor import Monitor, Unheard, best_validation, validations
from videorwkv.training.optim import learning_rate
from videorwkv.training.setup import (
    checkpoint_in,
    notes,
    resolve_init,
    resolve_recipe,
    training_loader,
    validation_interval,
    validation_split,
    write_config,
)
from videorwkv.training.state import fitting_state, load_state, most_bytes, save_state
from videorwkv.utils.device import pick_device
from videorwkv.utils.interrupt import Interrupts
from videorwkv.utils.processes import Processes, connected

# So many clips in a row that can't be read are no accident: paths are wrong, or a disk is gone.
HOPELESS = 1000


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
    on_validation: Callable[[int, Evaluation], None] | None = None,
    quiet: bool = False,
    baselines: bool = False,
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
        on_validation: called with the number of steps taken and the evaluation, after each
            validation and its checkpoint.
        quiet: print nothing.
        baselines: after the last step, also score baselines without a network on the `validation`
            split, and say how the model compares.

    Raises:
        UsageError: `out` holds a run already or is in use, or the one to resume was another;
            nothing of `init` fits, or it can't be found.
        DataError: nothing to train on, or not one clip can be read.
        NonFiniteError: a loss or gradient is NaN or infinite; the message names the module.
        CheckpointError: a checkpoint can't be written or read; the one before is untouched.
    """
    folder = Path(out)
    with (
        connected(device) as processes,
        locked(folder, processes),
        Interrupts() as interrupts,
    ):
        recipe, begun = processes.first(
            lambda: (
                resolve_recipe(recipe, manifest, folder, resume=resume),
                bool(checkpoint_in(folder)),
            )
        )
        require_same(processes, recipe, manifest)
        pretrained = processes.first(lambda: resolve_init(init, recipe, folder, resume=resume))
        trainer = _Trainer(
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
                folder, step=trainer.step, total_steps=trainer.total_steps, quiet=quiet
            ) as monitor,
        ):
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
        best_top1 = trainer.best_top1()
        found: tuple[Baseline, ...] = ()
        if baselines and not interrupted and processes.is_first:
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


class _Trainer:
    """A run in progress: learner, step, best."""

    def __init__(
        self,
        recipe: Recipe,
        manifest: Manifest,
        folder: Path,
        device: torch.device,
        cache: str | Path | None,
        pretrained: Pretrained | None,
        processes: Processes,
        *,
        begun: bool,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.device = device
        self.cache = cache
        self.manifest = manifest
        self.processes = processes
        self.validation = validation_split(manifest)
        self.lost: dict[str, str] = {}  # not saved: a resumed run tries them again
        self.loader = processes.each(
            lambda: training_loader(recipe, manifest, cache, device, self.lost, processes)
        )
        self.steps_per_epoch = self.loader.batches_per_epoch
        self.total_steps = recipe.steps or (recipe.epochs or 0) * self.steps_per_epoch
        self.eval_every = validation_interval(recipe, self.steps_per_epoch, self.total_steps)

        torch.manual_seed(recipe.seed)
        model = build_model(recipe.model)
        self.fit: Fit | None = None
        known = set() if pretrained is None else pretrained.weights.keys()
        if not begun and not stem_weight_names(model) <= known:
            load_stem_weights(model)
        if pretrained is not None:
            self.fit = load_pretrained(model, pretrained, manifest.labels)
        model.to(device)
        freeze(model, recipe.freeze)
        weights_K = None
        if recipe.class_weights == "balanced":
            rows = self.loader.dataset.manifest.rows
            indices = [manifest.label_index(row.label) for row in rows]
            weights_K = class_weights(indices, len(manifest.labels))
        self.learner = Learner(model, recipe, device, processes, weights_K)
        self.diagnostics = DiagnosticsMonitor(recipe.model.num_classes, self.total_steps)
        self.step = 0
        self.evaluated_at = 0
        self.best: list[float] = []  # accuracy and minus the loss, which breaks ties
        self.since_best = 0  # validations
        self.bad: dict[str, str] = {}
        self.num_clips = len(self.loader.dataset.manifest) + len(self.validation or ())
        self._saved = time.monotonic()  # what is lost without a checkpoint has begun here
        self._unread = 0  # clips in a row
        self._waited = 0.0

    # -- the loop ------------------------------------------------------------------------------

    def run(
        self,
        monitor: Monitor,
        interrupts: Interrupts,
        on_step: Callable[[int], None] | None,
        on_validation: Callable[[int, Evaluation], None] | None,
    ) -> None:
        """All steps that are left, with validations and checkpoints between them."""
        # Several processes end after the same step, or the others would wait for one that is gone.
        together = interrupts.deferred() if self.processes.size > 1 else nullcontext()
        with together:
            if self._is_due() and self.step > self.evaluated_at:
                self.validate(monitor, interrupts, on_validation)  # it was interrupted here
            asked = time.perf_counter()
            for pieces in self._batches():
                self._waited += time.perf_counter() - asked
                with interrupts.deferred():
                    counts_PA = self._agree(pieces, interrupts, monitor)
                    self._take_step(pieces, counts_PA, monitor)
                if on_step is not None:
                    on_step(self.step)
                if self._is_due():
                    self.validate(monitor, interrupts, on_validation)
                elif self._is_long_ago():
                    with interrupts.deferred():
                        self.save()
                asked = time.perf_counter()

    def _is_due(self) -> bool:
        return self.step == self.total_steps or (self.step > 0 and self.step % self.eval_every == 0)

    def _is_long_ago(self) -> bool:
        minutes = self.recipe.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self._saved >= 60 * minutes

    def _batches(self) -> Iterator[list[Batch]]:
        """Batches in their pieces, from the present step to the last one: a pure function of seed
        and step."""
        batches = iter(self.loader.at(*divmod(self.step, self.steps_per_epoch)))
        while self.step < self.total_steps and not self._is_out_of_patience():
            yield [next(batches) for _ in range(self.recipe.accumulate)]

    def _is_out_of_patience(self) -> bool:
        return 0 < self.recipe.patience <= self.since_best

    def _agree(
        self, pieces: Sequence[Batch], interrupts: Interrupts, monitor: Monitor
    ) -> list[list[float]]:
        """Readable clips in each piece, of each process; what else all have to know is told, too.

        Raises:
            KeyboardInterrupt: one of several processes was asked to end.
            DataError: no clip can be read any more.
        """
        bad = [clip for batch in pieces for clip in batch.bad]
        counts = [len(batch.indices) for batch in pieces]
        told = self.processes.gather([*counts, len(bad), interrupts.pending])
        if self.processes.size > 1:
            if any(numbers[-1] for numbers in told):
                raise KeyboardInterrupt
            if any(numbers[-2] for numbers in told):
                bad = [clip for part in self.processes.collect(bad) for clip in part]
        for clip in bad:
            self._note_bad(clip.path, clip.reason, self.step + 1, monitor)
        counts_PA = [numbers[:-2] for numbers in told]
        if any(map(sum, counts_PA)):
            self._unread = 0
        else:
            self._unread += len(bad)
            self._give_up_if_hopeless(bad, monitor)
        return counts_PA

    def _give_up_if_hopeless(self, bad: Sequence[BadClip], monitor: Monitor) -> None:
        rows = self.loader.dataset.manifest.rows
        if self._unread >= HOPELESS or all(row.path in self.bad for row in rows):
            raise self.processes.agreed(
                DataError(
                    f"{self.manifest.name}: none of the last {self._unread} clips could be read, "
                    f"so there is nothing to learn from. The last one: {bad[-1].reason} "
                    f"`videorwkv data check` looks at all of them; {monitor.log_path} lists the "
                    "rest."
                )
            )

    def _take_step(
        self, pieces: Sequence[Batch], counts_PA: Sequence[Sequence[float]], monitor: Monitor
    ) -> None:
        recipe, step = self.recipe, self.step
        lr = learning_rate(
            step,
            total_steps=self.total_steps,
            peak=recipe.lr,
            warmup=recipe.warmup,
            min_lr=recipe.min_lr,
        )
        self.step += 1
        found = self.learner.step(pieces, counts_PA, step, lr)
        if found is None:
            return  # too few of its clips could be read; the step counts, so that order stays order
        for batch in pieces:
            if batch.inputs is not None:
                self.diagnostics.step(batch.inputs, batch.labels, found.correct, found.clips)
                break
        monitor.step(
            self.step,
            epoch=step // self.steps_per_epoch,
            lr=lr,
            grad_norm=found.norm,
            loss=found.loss,
            correct=found.correct,
            clips=found.clips,
            waited=self._waited,
        )
        self._waited = 0.0

    def _note_bad(self, path: str, reason: str, step: int, monitor: Monitor) -> None:
        if path not in self.bad:
            self.bad[path] = reason
            monitor.bad_clip(step, path, reason)

    # -- validation and checkpoints --------------------------------------------------------------

    def validate(
        self,
        monitor: Monitor,
        interrupts: Interrupts,
        on_validation: Callable[[int, Evaluation], None] | None,
    ) -> None:
        """Score the validation split, if there is one, and write the checkpoint."""
        if self.processes.is_first:
            self.diagnostics.validation(self.learner.model, self.step, monitor)
        best = False
        if self.validation is not None:
            evaluation = self._evaluate(self.validation, lambda: interrupts.pending)
            accuracy = float(getattr(evaluation, self.recipe.best_by))
            score = [accuracy, -evaluation.loss if evaluation.n_ok else float("-inf")]
            best = not self.best or score > self.best
            self.since_best = 0 if best else self.since_best + 1
            if best:
                self.best = score
            for clip in evaluation.bad:
                self._note_bad(clip.path, clip.reason, self.step, monitor)
            monitor.validation(self.step, evaluation, best=best)
        with interrupts.deferred():
            if best and self.processes.is_first:
                weights = self.learner.best_model.state_dict()
                save_weights(weights, self.folder / "best.safetensors")
            self.evaluated_at = self.step
            self.save()
        if self.step < self.total_steps and self._is_out_of_patience():
            monitor.say(
                f"No better validation in the last {self.since_best}: training ends after "
                f"{self.step} of {self.total_steps} steps (patience)."
            )
        if on_validation is not None and self.validation is not None:
            on_validation(self.step, evaluation)

    def _evaluate(self, split: Manifest, stopped: Callable[[], bool]) -> Evaluation:
        return evaluate(
            self.learner.best_model,
            split,
            self.recipe.sampling,
            labels=self.manifest.labels,
            views=self.recipe.views,
            batch_size=self.recipe.batch_size,
            workers=self.recipe.workers,
            device=self.device,
            precision=self.recipe.precision,
            cache=self.cache,
            clip_timeout=self.recipe.clip_timeout,
            lost=self.lost,
            processes=self.processes,
            stopped=stopped,
        )

    def save(self) -> None:
        """Write `last` and all that resuming needs."""
        self._saved = time.monotonic()
        if not self.processes.is_first:
            return
        save_weights(self.learner.best_model.state_dict(), self.folder / "last.safetensors")
        progress = {"step": self.step, "evaluated_at": self.evaluated_at}
        results = {"best": list(self.best), "bad": dict(self.bad)}
        save_state(self.folder, {**progress, **results, **self.learner.state()})

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `save` wrote; `CheckpointError` if it is of another run, or damaged."""
        learner = self.learner
        state = self.processes.each(
            lambda: fitting_state(
                self.folder,
                state,
                model=learner.model,
                averaged=learner.averaged,
                optimizer=learner.optimizer,
                total_steps=self.total_steps,
            )
        )
        learner.load(state)
        self.step = state["step"]
        self.evaluated_at = state["evaluated_at"]
        self.best = state["best"]
        self.bad = state["bad"]
        for entry in validations(self.folder / "log.jsonl", self.evaluated_at):
            self.since_best = 0 if entry.get("best") else self.since_best + 1

    def best_top1(self) -> float | None:
        """Top-1 on the validation split of the weights in `best`; None without one."""
        if self.recipe.best_by == "top1":
            return self.best[0] if self.best else None
        found = best_validation(self.folder)
        return None if found is None else float(found["top1"])

    def announce(self, monitor: Monitor) -> None:
        """What is about to be trained, on what."""
        model = self.recipe.model
        parameters = sum(p.numel() for p in self.learner.model.parameters())
        monitor.say(
            f"{self.manifest.summary()}\n"
            f"{model.width}-wide model of {model.depth} layers, {parameters / 1e6:.2f} M "
            f"parameters, {model.image_size} px, {self.recipe.sampling.num_frames} frames, on "
            f"{self.device}; steps {self.step} to {self.total_steps}, "
            f"{self.steps_per_epoch} an epoch, into {self.folder}"
        )
        if self.processes.size > 1:
            share = self.recipe.batch_size / self.recipe.accumulate / self.processes.size
            monitor.say(
                f"{self.processes.size} processes share each batch of {self.recipe.batch_size} "
                f"clips (--batch-size is that of all of them): {share:.3g} clips a process at a "
                "time"
            )
        if self.fit is not None:
            monitor.say(self.fit.summary())
        for note in notes(self.recipe, self.manifest, parameters, self.device):
            monitor.say(f"note: {note}")
        if self.validation is None:
            unlabelled = "validation" in self.manifest.splits
            monitor.say(
                f"{'No label in the' if unlabelled else 'No'} validation split: nothing chooses a "
                "best checkpoint, `last` is what counts (the test split is never used for that)."
            )
