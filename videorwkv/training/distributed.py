"""Training on several processes, by PyTorch's own `DistributedDataParallel`: batch norms that count
the clips of all of them, and the check that all of them train the same.

F frames or rows of a batch, C channels, N what a channel is averaged over, on all processes.
"""

from __future__ import annotations

import hashlib
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as SyncedOnGPU
from torch.nn.parallel import DistributedDataParallel

from videorwkv.data import Manifest
from videorwkv.errors import UsageError
from videorwkv.models.cell import at_least_float32
from videorwkv.run.environment import versions
from videorwkv.run.recipes import Recipe
from videorwkv.utils.processes import Processes


class Synchroniser:
    """What the batch norms of a model share.

    Attributes:
        group: the processes; None: PyTorch's default group.
        idle: this process has no clip of the batch: it computes on one that does not count, so
            that it takes part in what all do together.
        alone: count the clips of this process only, without the others.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.idle = self.alone = False


class _Synced(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose statistics in training are those of the clips of all processes.

    PyTorch's `SyncBatchNorm` is for GPUs alone; there, its function is used. A subclass of what it
    replaces, with the same state: evaluation, folding and checkpoints see no difference.
    """

    synchroniser: Synchroniser

    def forward(self, x_FCHW: Tensor) -> Tensor:
        if not self.training or self.synchroniser.alone:
            return super().forward(x_FCHW)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        if not self.synchroniser.idle:
            return self._synced(x_FCHW)
        other = self._synced(x_FCHW[:0])
        own = F.batch_norm(
            x_FCHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        return torch.cat([other, own])

    def _synced(self, x_FCHW: Tensor) -> Tensor:
        state = self.weight, self.bias, self.running_mean, self.running_var, self.eps, self.momentum
        group = self.synchroniser.group
        if x_FCHW.is_cuda:
            group = group or dist.group.WORLD
            return cast(
                Tensor, SyncedOnGPU.apply(x_FCHW, *state, group, dist.get_world_size(group))
            )
        return cast(Tensor, _SyncedOnCPU.apply(x_FCHW, *state, group))


class _Synced1d(_Synced, nn.BatchNorm1d):
    pass


class _Synced2d(_Synced, nn.BatchNorm2d):
    pass


_SYNCED: dict[type[nn.Module], type[_Synced]] = {
    nn.BatchNorm1d: _Synced1d,
    nn.BatchNorm2d: _Synced2d,
}


def synchronise_norms(model: nn.Module, group: Any = None) -> Synchroniser:
    """Make the batch norms of `model` count the clips of all processes, in place."""
    shared = Synchroniser(group)
    for module in model.modules():
        synced = _SYNCED.get(type(module))
        if synced is not None:
            module.__class__ = synced
            module.synchroniser = shared  # type: ignore[assignment]
    return shared


class _SyncedOnCPU(torch.autograd.Function):
    """Batch norm over the batches of all processes.

    Mean and variance of each process are joined with their numbers as weights (Chan, Golub and
    LeVeque 1979), in float64, so that nothing depends on how the clips are shared but rounding.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_FCHW: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        running_mean_C: Tensor,
        running_var_C: Tensor,
        eps: float,
        momentum: float,
        group: Any,
    ) -> Tensor:
        channels = x_FCHW.shape[1]
        count = x_FCHW.numel() // channels
        own_3C = weight_C.new_zeros(3, channels, dtype=torch.float64)
        if count:
            dims = [d for d in range(x_FCHW.ndim) if d != 1]
            own_3C[1], own_3C[0] = torch.var_mean(at_least_float32(x_FCHW), dims, correction=0)
            own_3C[2] = count
        every = [torch.empty_like(own_3C) for _ in range(dist.get_world_size(group))]
        dist.all_gather(every, own_3C, group=group)
        mean_PC, var_PC, count_PC = torch.stack(every, 1)
        total = count_PC.sum(0)
        mean_C = (mean_PC * count_PC).sum(0) / total
        var_C = ((var_PC + (mean_PC - mean_C) ** 2) * count_PC).sum(0) / total
        with torch.no_grad():
            running_mean_C.lerp_(mean_C.to(running_mean_C), momentum)
            running_var_C.lerp_((var_C * total / (total - 1)).to(running_var_C), momentum)
        mean_C, var_C = mean_C.to(weight_C), var_C.to(weight_C)
        ctx.save_for_backward(x_FCHW, weight_C, mean_C, var_C, total[:1])
        ctx.eps, ctx.group = eps, group
        if not count:
            return torch.empty_like(x_FCHW)
        # With given statistics, as in evaluation.
        return F.batch_norm(x_FCHW, mean_C, var_C, weight_C, bias_C, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x_FCHW, weight_C, mean_C, var_C, total_1 = ctx.saved_tensors
        grad_FCHW = torch.empty_like(x_FCHW)
        grad_weight_C = grad_bias_C = torch.zeros_like(weight_C)
        if x_FCHW.numel():
            # As if the statistics were constants; then the way through them.
            grad_FCHW, grad_weight_C, grad_bias_C = torch.ops.aten.native_batch_norm_backward(
                grads[0], x_FCHW, weight_C, mean_C, var_C, None, None, False, ctx.eps, [True] * 3
            )
        sums_2C = torch.stack([grad_bias_C, grad_weight_C]).double()
        dist.all_reduce(sums_2C, group=ctx.group)
        scale_C = torch.rsqrt(var_C.double() + ctx.eps)
        offset_C, slope_C = sums_2C * weight_C * scale_C / total_1
        slope_C *= scale_C
        offset_C -= slope_C * mean_C
        shape = [1, -1] + [1] * (x_FCHW.ndim - 2)
        offset, slope = (x_C.to(weight_C).view(shape) for x_C in (offset_C, slope_C))
        grad_FCHW = grad_FCHW.to(weight_C.dtype).sub_(offset).addcmul_(x_FCHW, slope, value=-1)
        grad_x = grad_FCHW.to(x_FCHW.dtype)
        return grad_x, grad_weight_C, grad_bias_C, None, None, None, None, None


class _Shared(nn.Module):
    """What is distributed: `module`, and a parameter that is never used, or PyTorch would tell
    every user that there is none and that looking for some takes time."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, *arguments: Any) -> Any:
        return self.module(*arguments)


def distribute(loss: nn.Module, device: torch.device) -> DistributedDataParallel:
    """A module whose backward pass gives all processes the mean of their gradients.

    Args:
        loss: its output needs every gradient that there is.
        device: where its parameters are.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            _Shared(loss).to(device),
            device_ids=[device] if device.type == "cuda" else None,
            # They are the same anyhow: all processes count the same clips.
            broadcast_buffers=False,
            # Some options leave parameters without a gradient. With it, gradients are also summed
            # in the same order from the first step on, so a resumed run stays equal to the bit.
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )


@contextmanager
def backward_of_all() -> Iterator[None]:
    """For a backward pass through what `distribute` gave."""
    with warnings.catch_warnings():
        # A kernel of one channel has two sets of strides for one layout.
        warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
        yield


def require_same(processes: Processes, recipe: Recipe, manifest: Manifest) -> None:
    """All processes must train the same: they would mix what does not fit together, or wait for
    each other without an end.

    Raises:
        UsageError: code, versions, recipe or data of one differ from those of the first; or there
            are more processes than clips to share.
    """
    if processes.size == 1:
        return
    share = recipe.batch_size // recipe.accumulate
    clips = sum(row.split == "train" and row.label is not None for row in manifest.rows)
    available = min(share, clips * recipe.repeats)
    pairs = " in pairs, which are mixed," * bool(recipe.mixup or recipe.cutmix)
    if pairs:
        available = -(-available // 2)
    if processes.size > available:
        raise processes.agreed(
            UsageError(
                f"{processes.size} processes for {available} clips{pairs} at a time (--batch-size "
                f"{recipe.batch_size}, --accumulate {recipe.accumulate}, {clips} training clips): "
                "some would have none. Start fewer processes, or take a larger --batch-size."
            )
        )
    own_choice = ("workers", "clip_timeout", "checkpoint_minutes")
    known = {name: v for name, v in recipe.to_dict().items() if name not in own_choice}
    found = versions()
    own = {
        "code (the files of the package)": _code(),
        "versions": {name: found[name] for name in ("videorwkv", "torch", "python")},
        "recipe": {name: str(value) for name, value in known.items()},
        "data (paths, labels and splits, in order)": hashlib.sha256(
            repr(
                [(manifest.relative_name(r), r.label, r.split) for r in manifest.rows]
                + [manifest.labels, manifest.flips]
            ).encode(errors="surrogateescape")
        ).hexdigest()[:12],
    }
    every = processes.collect((socket.gethostname(), own))
    _, first = every[0]
    for rank, (host, other) in enumerate(every):
        for what, value in other.items():
            if value != first[what]:
                raise processes.agreed(
                    UsageError(
                        f"Process {rank} (on {host}) has other {what} than process 0 (on "
                        f"{every[0][0]}): {_difference(value, first[what])}. All need the same "
                        "code, environment, options and files."
                    )
                )


def _difference(one: Any, other: Any) -> str:
    if not isinstance(one, dict):
        return f"{one}, not {other}"
    return ", ".join(f"{k} {one[k]}, not {other[k]}" for k in one if one[k] != other[k])


def _code() -> str:
    """Hash of the package's sources."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".c", ".h"):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
