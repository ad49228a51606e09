"""A run in progress: learner, step and best weights, from one checkpoint to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videorwkv.data import Batch, Manifest
from videorwkv.data.background import background_places
from videorwkv.data.dataset import BadClip
from videorwkv.errors import DataError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.timeline.evaluate import evaluate_timeline
from videorwkv.inference.timeline.results import Validation
from videorwkv.models import build_model
from videorwkv.models.pretrained_stem import load_stem_weights, stem_weight_names
from videorwkv.preprocess.inputs import Inputs
from videorwkv.run.pretrained import Fit, Pretrained, fitting_names, load_pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import save_weights
from videorwkv.training.diagnostics import DiagnosticsMonitor
from videorwkv.training.freeze import freeze
from videorwkv.training.learner import Learner, Step, class_weights
from videorwkv.training.loggers.jsonl import best_validation, validations
from videorwkv.training.monitor import Monitor
from videorwkv.training.optim import learning_rate
from videorwkv.training.setup import (
    notes,
    require_validations,
    require_weights,
    training_loader,
    validation_interval,
    validation_split,
)
from videorwkv.training.state import fitting_state, save_state
from videorwkv.utils.interrupt import Interrupts
from videorwkv.utils.processes import Processes

# So many clips in a row that can't be read are no accident: paths are wrong, or a disk is gone.
HOPELESS = 1000


class Trainer:
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
        require_validations(recipe, manifest)
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
        stem = own_weights = stem_weight_names(model)
        # All of a stem or nothing: parts of two networks make none.
        if stem <= fitting_names(model, pretrained):
            stem = set()
        elif not begun:
            load_stem_weights(model)
        if pretrained is not None:
            self.fit = load_pretrained(model, pretrained, manifest.labels, keep=stem)
        model.to(device)
        frozen = processes.each(lambda: freeze(model, recipe.freeze))
        if pretrained is None and not begun:
            processes.each(lambda: require_weights(recipe, frozen, own_weights))
        weights_K = None
        if recipe.class_weights == "balanced":
            rows = self.loader.dataset.manifest.rows
            indices = [manifest.label_index(row.label) for row in rows]
            weights_K = class_weights(indices, len(manifest.labels))
            if recipe.augmentation.negatives:  # no row is of that class, but some clips are
                weights_K[list(background_places(manifest.labels))] = 1.0
        self.learner = Learner(model, recipe, device, processes, weights_K)
        self.diagnostics = DiagnosticsMonitor(
            recipe.model.num_classes, self.total_steps, self.learner.on_device
        )
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
        on_validation: Callable[[int, Any], None] | None,
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
        if self._unread >= HOPELESS or all(row.name in self.bad for row in rows):
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
                self._diagnose(batch.inputs, batch.labels, found)
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

    def _diagnose(self, inputs: Inputs, labels: Tensor, found: Step) -> None:
        if self.recipe.timeline:  # of windows of a timeline, those whose last frame is known
            known = torch.nonzero(labels[:, -1] >= 0).flatten()
            if not len(known):
                return
            inputs, labels = Inputs(*(x[known] for x in inputs)), labels[known, -1]
        self.diagnostics.step(inputs, labels, found.correct, found.clips)

    def _note_bad(self, path: str, reason: str, step: int, monitor: Monitor) -> None:
        if path not in self.bad:
            self.bad[path] = reason
            monitor.bad_clip(step, path, reason)

    # -- validation and checkpoints --------------------------------------------------------------

    def validate(
        self,
        monitor: Monitor,
        interrupts: Interrupts,
        on_validation: Callable[[int, Any], None] | None,
    ) -> None:
        """Score the validation split, if there is one, and write the checkpoint."""
        if self.processes.is_first:
            self.diagnostics.validation(self.learner.model, self.step, monitor)
        evaluation = None
        if self.validation is not None:
            evaluation = self._evaluate(self.validation, lambda: interrupts.pending)
        # As one: a score that is kept without its weights, no resumed run would write them for.
        with interrupts.deferred():
            if evaluation is not None:
                self._judge(evaluation, monitor)
            self.evaluated_at = self.step
            self.save()
        if self.step < self.total_steps and self._is_out_of_patience():
            monitor.say(
                f"No better validation in the last {self.since_best}: training ends after "
                f"{self.step} of {self.total_steps} steps (patience)."
            )
        if on_validation is not None and evaluation is not None:
            on_validation(self.step, evaluation)

    def _judge(self, evaluation: Validation, monitor: Monitor) -> None:
        """Keep the weights if no validation was better."""
        accuracy = float(getattr(evaluation, self.recipe.best_by))
        score = [accuracy, -evaluation.loss if evaluation.n_ok else float("-inf")]
        best = not self.best or score > self.best
        self.since_best = 0 if best else self.since_best + 1
        if best:
            self.best = score
        for clip in evaluation.bad:
            self._note_bad(clip.path, clip.reason, self.step, monitor)
        monitor.validation(self.step, evaluation, best=best)
        if best and self.processes.is_first:
            weights = self.learner.best_model.state_dict()
            save_weights(weights, self.folder / "best.safetensors")

    def _evaluate(self, split: Manifest, stopped: Callable[[], bool]) -> Validation:
        if self.recipe.timeline:
            return evaluate_timeline(
                self.learner.best_model,
                split,
                self.recipe.sampling,
                labels=self.manifest.labels,
                device=self.device,
                precision=self.recipe.precision,
                cache=self.cache,
                processes=self.processes,
                stopped=stopped,
            )
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
                scaler=learner.scaler,
            )
        )
        learner.load(state)
        self.step = state["step"]
        self.evaluated_at = state["evaluated_at"]
        self.best = state["best"]
        self.bad = state["bad"]
        # All end together, whoever sees the folder.
        log = self.folder / "log.jsonl"
        for entry in self.processes.first(lambda: validations(log, self.evaluated_at)):
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
