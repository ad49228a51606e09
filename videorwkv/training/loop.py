"""The training loop: `train(recipe, manifest, out)`. B batch, T frames, K classes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videorwkv.data import Batch, Manifest
from videorwkv.errors import ConfigError, DataError, NonFiniteError
from videorwkv.inference.baselines import Baseline
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.metrics import Evaluation
from videorwkv.models import Inputs, build_model
from videorwkv.models.nonfinite import first_bad_module
from videorwkv.models.pretrained_stem import load_stem_weights, stem_weight_names
from videorwkv.run.pretrained import Fit, Pretrained, load_pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import save_weights
from videorwkv.training.compare import compare
from videorwkv.training.diagnostics import DiagnosticsMonitor
from videorwkv.training.freeze import freeze, train_mode
from videorwkv.training.lock import locked
from videorwkv.training.monitor import Monitor, best_validation
from videorwkv.training.optim import learning_rate, make_optimizer, set_rate
from videorwkv.training.setup import (
    check_folder,
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
from videorwkv.utils.device import autocast, pick_device
from videorwkv.utils.interrupt import Interrupts

# So many clips in a row that can't be read are no accident: paths are wrong, or a disk is gone.
HOPELESS = 1000


@dataclass(frozen=True)
class TrainResult:
    """How a training run ended.

    Args:
        folder: the run's folder; `load_run(folder)` reads it.
        step: steps taken in all.
        total_steps: steps of the whole run; fewer were taken if it was interrupted.
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
    check_folder(folder, resume=resume)
    with locked(folder), Interrupts() as interrupts:
        recipe = resolve_recipe(recipe, manifest, folder, resume=resume)
        pretrained = resolve_init(init, recipe, folder, resume=resume)
        resumes = bool(checkpoint_in(folder))
        trainer = _Trainer(
            recipe, manifest, folder, pick_device(device), cache, pretrained, resumes=resumes
        )
        if resumes:
            trainer.load(load_state(folder, most=most_bytes(trainer.model)))
        else:
            write_config(recipe, manifest, folder, trainer.fit)
        with (
            closing(trainer.loader),
            Monitor(
                folder, step=trainer.step, total_steps=trainer.total_steps, quiet=quiet
            ) as monitor,
        ):
            trainer.announce(monitor)
            try:
                trainer.run(monitor, interrupts, on_step)
                interrupted = False
            except torch.OutOfMemoryError as error:
                raise ConfigError(
                    f"Step {trainer.step}: {trainer.device} is out of memory with batch_size "
                    f"{recipe.batch_size}. Take a smaller --batch-size, fewer frames or a smaller "
                    "model, and another --out."
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
        best_top1 = trainer.best[0] if trainer.best else None
        found: tuple[Baseline, ...] = ()
        if baselines and not interrupted:
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
        best=best_validation(folder),
    )


class _Trainer:
    """A run in progress: model, optimiser, step, best."""

    def __init__(
        self,
        recipe: Recipe,
        manifest: Manifest,
        folder: Path,
        device: torch.device,
        cache: str | Path | None,
        pretrained: Pretrained | None,
        *,
        resumes: bool,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.device = device
        self.cache = cache
        self.manifest = manifest
        self.validation = validation_split(manifest)
        self.lost: dict[str, str] = {}  # not saved: a resumed run tries them again
        self.loader = training_loader(recipe, manifest, cache, device, self.lost)
        self.steps_per_epoch = self.loader.batches_per_epoch
        self.total_steps = recipe.steps or (recipe.epochs or 0) * self.steps_per_epoch
        self.eval_every = validation_interval(recipe, self.steps_per_epoch, self.total_steps)

        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe.model)
        self.fit: Fit | None = None
        known = set() if pretrained is None else pretrained.weights.keys()
        if not resumes and not stem_weight_names(self.model) <= known:
            load_stem_weights(self.model)
        if pretrained is not None:
            self.fit = load_pretrained(self.model, pretrained, manifest.labels)
        self.model.to(device)
        freeze(self.model, recipe.freeze)
        self.averaged = copy.deepcopy(self.model).eval() if recipe.ema else None
        self.optimizer = make_optimizer(
            self.model, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas,
            layer_decay=recipe.layer_decay,
        )  # fmt: skip
        self.model.checkpoint_frames = recipe.checkpoint_frames
        if recipe.compile:
            self.model.enable_compile()
        self.diagnostics = DiagnosticsMonitor(recipe.model.num_classes, self.total_steps)
        self.step = 0
        self.evaluated_at = 0
        self.best: list[float] = []  # top-1 and minus the loss, which breaks ties
        self.bad: dict[str, str] = {}
        self.num_clips = len(self.loader.dataset.manifest) + len(self.validation or ())
        self._saved = time.monotonic()  # what is lost without a checkpoint has begun here
        self._unread = 0  # clips in a row
        self._waited = 0.0

    # -- the loop ------------------------------------------------------------------------------

    def run(
        self, monitor: Monitor, interrupts: Interrupts, on_step: Callable[[int], None] | None
    ) -> None:
        """All steps that are left, with validations and checkpoints between them."""
        if self._is_due() and self.step > self.evaluated_at:
            self.validate(monitor, interrupts)  # it was interrupted here
        asked = time.perf_counter()
        for batch in self._batches():
            self._waited += time.perf_counter() - asked
            with interrupts.deferred():
                self._count_bad(batch, monitor)
                self._take_step(batch, monitor)
            if on_step is not None:
                on_step(self.step)
            if self._is_due():
                self.validate(monitor, interrupts)
            elif self._is_long_ago():
                with interrupts.deferred():
                    self.save()
            asked = time.perf_counter()

    def _is_due(self) -> bool:
        return self.step == self.total_steps or (self.step > 0 and self.step % self.eval_every == 0)

    def _is_long_ago(self) -> bool:
        minutes = self.recipe.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self._saved >= 60 * minutes

    def _batches(self) -> Iterator[Batch]:
        """Batches from the present step to the last one: a pure function of seed and step."""
        batches = iter(self.loader.at(*divmod(self.step, self.steps_per_epoch)))
        while self.step < self.total_steps:
            yield next(batches)

    def _take_step(self, batch: Batch, monitor: Monitor) -> None:
        recipe, step = self.recipe, self.step
        lr = learning_rate(
            step,
            total_steps=self.total_steps,
            peak=recipe.lr,
            warmup=recipe.warmup,
            min_lr=recipe.min_lr,
        )
        self.step += 1
        if batch.inputs is None or not recipe.can_learn_from(*batch.inputs.frames_BTHWC.shape[:2]):
            return  # too few of its clips could be read; the step counts, so that order stays order
        set_rate(self.optimizer, lr)
        inputs, labels = batch.inputs.to(self.device), batch.labels.to(self.device)

        train_mode(self.model)
        loss, correct = self._loss(inputs, labels, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), recipe.clip_norm or float("inf")
        )
        loss_value, norm_value = float(loss.detach()), float(norm)
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            self._fail(inputs, labels, step, loss_value, norm_value)
        self.optimizer.step()
        self._average()
        self.diagnostics.step(inputs, labels, int(correct))
        monitor.step(
            self.step,
            epoch=step // self.steps_per_epoch,
            lr=lr,
            grad_norm=norm_value,
            loss=loss_value,
            correct=int(correct),
            clips=len(labels),
            waited=self._waited,
        )
        self._waited = 0.0

    def _loss(self, inputs: Inputs, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Loss of the batch and the number of clips named right."""
        # Drop-path and tube masks draw from torch's generator: seeding it anew at every step makes
        # them a function of the step, so that resuming needs no generator's state.
        torch.manual_seed(_step_seed(self.recipe.seed, step))
        with autocast(self.device, self.recipe.precision):
            if self.recipe.loss_frames == "last":
                logits_BK = self.model(inputs)
                logits_NK, labels_N = logits_BK, labels
            else:
                logits_BTK = self.model.scan(inputs)[0]
                late_BTK = logits_BTK[:, logits_BTK.shape[1] // 2 :]
                logits_BK, logits_NK = logits_BTK[:, -1], late_BTK.flatten(0, 1)
                labels_N = labels.repeat_interleave(late_BTK.shape[1])
        loss = F.cross_entropy(
            logits_NK.float(), labels_N, label_smoothing=self.recipe.label_smoothing
        )
        return loss, (logits_BK.detach().argmax(-1) == labels).sum()

    def _fail(self, inputs: Inputs, labels: Tensor, step: int, loss: float, norm: float) -> None:
        where = first_bad_module(self.model, lambda: self._loss(inputs, labels, step)[0])
        raise NonFiniteError(
            f"Step {step + 1}: the loss is {loss:g} and the gradient's norm {norm:g}; first in "
            f"{where}. The weights in {self.folder} are from before. A lower lr, a clip_norm or "
            "precision=float32 often helps; the paper's cell can grow without bound "
            "(model.cell=gated does not)."
        )

    def _average(self) -> None:
        if self.averaged is None:
            return
        # Young averages follow faster: the first weights are noise.
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(
                self.averaged.parameters(), self.model.parameters(), strict=True
            ):
                mean.lerp_(value, 1 - decay)
            # Statistics of batch norm: already an average over many batches.
            for kept, latest in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
                kept.copy_(latest)

    def _count_bad(self, batch: Batch, monitor: Monitor) -> None:
        for clip in batch.bad:
            self._note_bad(clip.path, clip.reason, self.step + 1, monitor)
        if batch.inputs is not None:
            self._unread = 0
            return
        self._unread += len(batch.bad)
        rows = self.loader.dataset.manifest.rows
        if self._unread >= HOPELESS or all(row.path in self.bad for row in rows):
            raise DataError(
                f"{self.manifest.name}: none of the last {self._unread} clips could be read, so "
                f"there is nothing to learn from. The last one: {batch.bad[-1].reason} "
                f"`videorwkv data check` looks at all of them; {monitor.log_path} lists the rest."
            )

    def _note_bad(self, path: str, reason: str, step: int, monitor: Monitor) -> None:
        if path not in self.bad:
            self.bad[path] = reason
            monitor.bad_clip(step, path, reason)

    # -- validation and checkpoints --------------------------------------------------------------

    def validate(self, monitor: Monitor, interrupts: Interrupts) -> None:
        """Score the validation split, if there is one, and write the checkpoint."""
        self.diagnostics.validation(self.model, self.step, monitor)
        best = False
        if self.validation is not None:
            evaluation = self._evaluate(self.validation, lambda _: interrupts.check())
            score = [evaluation.top1, -evaluation.loss if evaluation.n_ok else float("-inf")]
            best = not self.best or score > self.best
            if best:
                self.best = score
            for clip in evaluation.bad:
                self._note_bad(clip.path, clip.reason, self.step, monitor)
            monitor.validation(self.step, evaluation, best=best)
        with interrupts.deferred():
            if best:
                save_weights(self._weights(), self.folder / "best.safetensors")
            self.evaluated_at = self.step
            self.save()

    def _evaluate(self, split: Manifest, on_batch: Callable[[int], None]) -> Evaluation:
        return evaluate(
            self.averaged or self.model,
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
            on_batch=on_batch,
        )

    def save(self) -> None:
        """Write `last` and all that resuming needs."""
        save_weights(self._weights(), self.folder / "last.safetensors")
        save_state(
            self.folder,
            {
                "step": self.step,
                "evaluated_at": self.evaluated_at,
                "best": list(self.best),
                "bad": dict(self.bad),
                "model": self.model.state_dict(),
                "averaged": None if self.averaged is None else self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )
        self._saved = time.monotonic()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `save` wrote; `CheckpointError` if it is of another run, or damaged."""
        state = fitting_state(
            self.folder, state, model=self.model, averaged=self.averaged,
            optimizer=self.optimizer, total_steps=self.total_steps,
        )  # fmt: skip
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.evaluated_at = state["evaluated_at"]
        self.best = state["best"]
        self.bad = state["bad"]

    def _weights(self) -> dict[str, Tensor]:
        return (self.averaged or self.model).state_dict()

    def announce(self, monitor: Monitor) -> None:
        """What is about to be trained, on what."""
        model = self.recipe.model
        parameters = sum(p.numel() for p in self.model.parameters())
        monitor.say(
            f"{self.manifest.summary()}\n"
            f"{model.width}-wide model of {model.depth} layers, {parameters / 1e6:.2f} M "
            f"parameters, {model.image_size} px, {self.recipe.sampling.num_frames} frames, on "
            f"{self.device}; steps {self.step} to {self.total_steps}, "
            f"{self.steps_per_epoch} an epoch, into {self.folder}"
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


def _step_seed(seed: int, step: int) -> int:
    # An odd multiplier keeps seeds of neighbouring runs and steps apart.
    return (seed * 0x9E3779B1 + step + 1) % 2**63
