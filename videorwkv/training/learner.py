"""The model and its optimiser: one step on one batch, whatever part of it this process computes.

B clips that are computed here at a time, T frames, K classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.data import Batch
from videorwkv.data.mixing import mixed
from videorwkv.data.timeline import UNKNOWN
from videorwkv.errors import NonFiniteError
from videorwkv.models import LCR, Inputs
from videorwkv.models.cell import at_least_float32
from videorwkv.models.masking import Share
from videorwkv.models.nonfinite import first_bad_module
from videorwkv.models.scores import loss, named_right
from videorwkv.preprocess.inputs import completed
from videorwkv.run.recipes import Recipe
from videorwkv.training.distributed import (
    Synchroniser,
    backward_of_all,
    distribute,
    synchronise_norms,
)
from videorwkv.training.freeze import train_mode
from videorwkv.training.optim import make_optimizer, set_rate
from videorwkv.utils.device import autocast
from videorwkv.utils.processes import ALONE, Processes

# Where the loss is not even scaled up, its gradients overflow by themselves.
LEAST_SCALE = 1.0


class Step(NamedTuple):
    """What a step tells: of the whole batch, whoever computed it.

    Args:
        loss: mean over its clips.
        correct: clips named right; of windows of a timeline, the sum of the shares of their frames.
        clips: clips that could be read.
        norm: of the gradient, before it was clipped; 0 where nothing was learnt, because gradients
            in float16 have overflown: the next loss is scaled less.
    """

    loss: float
    correct: float
    clips: int
    norm: float


class Learner:
    """Takes steps.

    Args:
        model: on its device; some of its parameters may be frozen.
        recipe: loss, optimiser, average.
        device: where the model is.
        processes: those that share each batch.
        class_weights_K: how much a clip of each class counts in the loss; None: each the same.
    """

    def __init__(
        self,
        model: LCR,
        recipe: Recipe,
        device: torch.device,
        processes: Processes = ALONE,
        class_weights_K: Tensor | None = None,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.device = device
        self.processes = processes
        self.averaged = copy.deepcopy(model).eval() if recipe.ema else None
        self.optimizer = make_optimizer(
            model, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas,
            layer_decay=recipe.layer_decay, fused=device.type == "cuda",
        )  # fmt: skip
        # Small gradients would be lost in float16: the loss is scaled up, gradients down again.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        model.checkpoint_frames = recipe.checkpoint_frames
        if recipe.compile:
            model.enable_compile()
        if recipe.recompute:
            model.enable_recompute()
        self._loss: nn.Module = _Loss(model, recipe, device, class_weights_K)
        self._own_loss = self._loss
        self._synchroniser = Synchroniser()
        self._distributed: Any = None
        if processes.size > 1:
            self._synchroniser = synchronise_norms(model)
            self._loss = self._distributed = distribute(self._loss, device)

    def step(
        self, pieces: Sequence[Batch], counts_PA: Sequence[Sequence[float]], step: int, lr: float
    ) -> Step | None:
        """One optimiser step.

        Args:
            pieces: this process's part of each of the A pieces of the batch, whose gradients are
                added up.
            counts_PA: readable clips in each piece, of each process.
            step: steps taken before; decides all that is drawn.
            lr: learning rate.

        Returns:
            None where too few of its clips could be read: nothing was learnt.

        Raises:
            NonFiniteError: the loss or the gradient is; the message says where it began.
        """
        num_frames = self.recipe.sampling.num_frames
        totals = [int(sum(counts)) for counts in zip(*counts_PA, strict=True)]
        used = [a for a, n in enumerate(totals) if n and self.recipe.can_learn_from(n, num_frames)]
        if not used:
            return None
        clips = sum(totals[a] for a in used)
        set_rate(self.optimizer, lr)
        train_mode(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        tasks = [
            self._task(
                pieces[a],
                [int(counts_A[a]) for counts_A in counts_PA],
                _step_seed(self.recipe.seed, step, a),
                clips,
            )
            for a in used
        ]
        shares, rights = [], []  # of the whole batch's loss, and of its clips
        for number, task in enumerate(tasks):
            with self.processes.talking(), self._together(last=number + 1 == len(tasks)):
                loss, right = self._compute(task, self._loss)
                self.scaler.scale(loss).backward()
            shares.append(loss.detach())
            rights.append(right)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.recipe.clip_norm or float("inf")
        )
        # Read at once: a GPU has to end all its work before it can tell a number.
        share, correct, length = _numbers(sum(shares), sum(rights), norm)
        every = self.processes.gather([share / self.processes.size, correct])
        found = Step(sum(loss for loss, _ in every), sum(n for _, n in every), clips, length)
        overflown = self._overflown(found)
        if not math.isfinite(found.loss) or not (overflown or math.isfinite(found.norm)):
            self._fail(tasks, step, found)
        self.scaler.step(self.optimizer)  # nothing where gradients have overflown
        self.scaler.update()
        self._average(step + 1)
        return found._replace(norm=0.0) if overflown else found

    def _overflown(self, found: Step) -> bool:
        """Whether it is the scale that made gradients infinite, as far as a lower one may help."""
        if not self.scaler.is_enabled() or math.isfinite(found.norm):
            return False
        return self.scaler.get_scale() > LEAST_SCALE

    def _task(self, batch: Batch, counts_P: Sequence[int], seed: int, clips: int) -> _Task:
        """What is to be computed of one piece: `clips` are those of the whole batch."""
        whole = self.processes.size == 1 and sum(counts_P) == clips
        scale = None if whole else self.processes.size / clips
        share = None
        if self.processes.size > 1:
            share = Share(sum(counts_P[: self.processes.rank]), sum(counts_P))
        if batch.inputs is not None:
            inputs, labels = self.on_device(batch.inputs), batch.labels.to(self.device)
            others = None
            if batch.mix is not None:
                inputs = mixed(inputs, batch.mix)
                partners = batch.mix.partner_B.to(self.device)
                others = Others(labels[partners], batch.mix.share_B.to(self.device))
            return _Task(inputs, labels, seed, share, scale, others)
        # A black clip that does not count, so that this process takes part.
        size = self.recipe.model.image_size
        shape = 1, self.recipe.sampling.num_frames, size, size
        black = torch.zeros(*shape, 4, dtype=torch.uint8, device=self.device)
        inputs = Inputs(black[..., :3], black[..., 3])
        labels = black.new_zeros(1, dtype=torch.int64)
        if self.recipe.timeline:
            labels = labels[:, None].expand(1, shape[1])
        if self.recipe.model.multilabel:
            labels = torch.zeros(1, self.recipe.model.num_classes, device=self.device)
        return _Task(inputs, labels, seed, Share(0, sum(counts_P)), 0)

    def on_device(self, inputs: Inputs) -> Inputs:
        """Inputs of training clips where the model is, with their edges if they are made there."""
        inputs = inputs.to(self.device)
        if not self.recipe.makes_edges_on(self.device.type):
            return inputs
        config = self.model.config
        return completed(inputs, config.edges, config.edge_options)

    @contextmanager
    def _together(self, *, last: bool) -> Iterator[None]:
        """Around a forward and a backward pass: gradients are shared after the last one."""
        if self._distributed is None:
            yield
            return
        with backward_of_all(), nullcontext() if last else self._distributed.no_sync():
            yield

    def _compute(self, task: _Task, loss: nn.Module) -> tuple[Tensor, Tensor]:
        self._synchroniser.idle = task.scale == 0
        found: tuple[Tensor, Tensor] = loss(*task)
        return found

    def _fail(self, tasks: Sequence[_Task], step: int, found: Step) -> None:
        """Say where it began, which each process looks for in its own clips."""
        self._synchroniser.alone = True
        where = first_bad_module(
            self.model,
            lambda: sum(self._compute(task, self._own_loss)[0] for task in tasks),  # type: ignore[arg-type,return-value]
        )
        places = self.processes.collect(where)
        named = [place for place in places if not place.startswith("no single module")]
        raise self.processes.agreed(
            NonFiniteError(
                f"Step {step + 1}: the loss is {found.loss:g} and the gradient's norm "
                f"{found.norm:g}; first in {(named or places)[0]}. The last checkpoint is from "
                "before. A lower lr, a clip_norm or precision=float32 often helps; the paper's "
                "cell can grow without bound (model.cell=gated does not)."
            )
        )

    def _average(self, step: int) -> None:
        if self.averaged is None:
            return
        # Young averages follow faster: the first weights are noise.
        decay = min(self.recipe.ema, (1 + step) / (10 + step))
        means, values = (list[Tensor](m.parameters()) for m in (self.averaged, self.model))
        kept, latest = (list(m.buffers()) for m in (self.averaged, self.model))
        with torch.no_grad():
            torch._foreach_lerp_(means, values, 1 - decay)
            # Statistics of batch norm: already an average over many batches.
            torch._foreach_copy_(kept, latest)

    @property
    def best_model(self) -> LCR:
        """What is evaluated and kept: the average where there is one."""
        return self.averaged or self.model

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return {
            "model": self.model.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **({"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])


class Others(NamedTuple):
    """What mixing adds to the labels.

    Args:
        labels_B: of the clips that those of a batch are mixed with.
        share_B: of the loss that is that of their own labels; the rest is that of the others.
    """

    labels_B: Tensor
    share_B: Tensor


class _Task(NamedTuple):
    """One forward and backward pass.

    Args:
        inputs: frames [B, T, H, W, 3] and edges.
        labels: as in `Batch`; negative where nothing is known of a frame.
        seed: of what is drawn.
        share: which clips of the piece these are; None: all.
        scale: of the sum over the clips of their losses; None: their mean; 0: it does not count.
        others: labels of the clips that these are mixed with; None: with none.
    """

    inputs: Inputs
    labels: Tensor
    seed: int
    share: Share | None
    scale: float | None
    others: Others | None = None


class _Loss(nn.Module):
    """The model with its loss, as one module."""

    def __init__(
        self,
        model: LCR,
        recipe: Recipe,
        device: torch.device,
        class_weights_K: Tensor | None = None,
    ) -> None:
        super().__init__()
        # No buffer, which processes would send each other.
        self.class_weights_K = None if class_weights_K is None else class_weights_K.to(device)
        self.model = model
        self.recipe = recipe
        self.device = device

    def forward(
        self,
        inputs: Inputs,
        labels: Tensor,
        seed: int,
        share: Share | None,
        scale: float | None,
        others: Others | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss and the number of clips named right; arguments as in `_Task`."""
        # Drop-path and tube masks draw from torch's generator: seeding it anew at every step makes
        # them a function of the step, so that resuming needs no generator's state.
        torch.manual_seed(seed)
        if self.recipe.timeline:
            return self._of_frames(inputs, labels, share, scale)
        with autocast(self.device, self.recipe.precision):
            if self.recipe.loss_frames == "last":
                logits_BK = self.model(inputs, share)
                logits_NK, labels_N = logits_BK, labels
            else:
                logits_BTK = self.model.scan(inputs, share=share)[0]
                late_BTK = logits_BTK[:, logits_BTK.shape[1] // 2 :]
                logits_BK, logits_NK = logits_BTK[:, -1], late_BTK.flatten(0, 1)
                labels_N = labels.repeat_interleave(late_BTK.shape[1], 0)
        # PyTorch's weighted mean is over the weights of the batch, whatever classes it has.
        whole = "mean" if scale is None and self.class_weights_K is None else "sum"
        if others is None:
            found = self._losses(logits_NK, labels_N, whole)
        else:
            count = len(labels_N) // len(labels)
            share_N, other_N = (x.repeat_interleave(count, 0) for x in others[::-1])
            own = self._losses(logits_NK, labels_N, "none")
            rest = self._losses(logits_NK, other_N, "none")
            loss_N = share_N * own + (1 - share_N) * rest
            found = loss_N.mean() if whole == "mean" else loss_N.sum()
        if scale is None and self.class_weights_K is not None:
            found = found / len(labels_N)
        if scale is not None:
            found = found * (scale * len(labels) / len(labels_N))
        right = named_right(logits_BK.detach(), labels, self.model.config)
        return found, right * (scale != 0)

    def _losses(self, logits_NK: Tensor, labels_N: Tensor, reduction: str) -> Tensor:
        return loss(
            at_least_float32(logits_NK),
            labels_N,
            self.model.config,
            class_weights_K=self.class_weights_K,
            label_smoothing=self.recipe.label_smoothing,
            reduction=reduction,
        )

    def _of_frames(
        self, inputs: Inputs, labels_BT: Tensor, share: Share | None, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a window is the mean over its frames of which something is known."""
        with autocast(self.device, self.recipe.precision):
            logits_BTK = self.model.scan(inputs, share=share)[0]
        known_BT = labels_BT >= 0
        count_B = known_BT.sum(1).clamp_min(1)
        losses_BT = F.cross_entropy(
            at_least_float32(logits_BTK).transpose(1, 2),
            labels_BT,
            ignore_index=UNKNOWN,
            label_smoothing=self.recipe.label_smoothing,
            reduction="none",
        )
        losses_B = losses_BT.sum(1) / count_B
        right_BT = known_BT & (logits_BTK.detach().argmax(-1) == labels_BT)
        right = (right_BT.sum(1) / count_B).sum()
        loss = losses_B.mean() if scale is None else losses_B.sum() * scale
        return loss, right * (scale != 0)


def _numbers(*values: Tensor | int) -> list[float]:
    """All of them from the device in one go, none of them rounded."""
    tensors = [at_least_float32(torch.as_tensor(x)) for x in values]
    widest = max((x.dtype for x in tensors), key=lambda dtype: dtype.itemsize)
    return torch.stack([x.to(tensors[-1].device, widest) for x in tensors]).tolist()


def class_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """Weights in inverse proportion to the clips of each class, float32 [K]: over all clips their
    mean is 1. A class without clips has 0.

    Args:
        labels: of the training clips.
        num_classes: K.
    """
    count_K = torch.bincount(torch.tensor(labels), minlength=num_classes).float()
    present_K = (count_K > 0).float()
    return present_K * len(labels) / (present_K.sum() * count_K.clamp_min(1))


def _step_seed(seed: int, step: int, piece: int) -> int:
    # Odd multipliers keep seeds of neighbouring runs, steps and pieces apart.
    return (seed * 0x9E3779B1 + piece * 0xC2B2AE3D27D4EB4F + step + 1) % 2**63
