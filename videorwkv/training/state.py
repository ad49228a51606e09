"""state.pt, what resuming needs: step, optimiser, raw weights; tensors and plain values only.

It is a zip, which carries a CRC-32 of each member; PyTorch writes them and does not compare them.
It may come from anybody, so nothing in it is used before it is known to be of the right kind.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import decimal, write_atomic
from videorwkv.utils.values import brief

# What a state holds beside its tensors: names, numbers, and clips that can't be read.
MOST_PICKLE = 64 << 20
# What `torch.save` names for our states. Others that PyTorch takes for safe make buffers of any
# size, or tensors of kinds that nothing here expects.
_KNOWN = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int")}
)
# Of each parameter, beside the number of its steps.
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write state.pt: tensors and plain values only, so that reading it runs no code."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / "state.pt", buffer.getvalue())


def load_state(folder: Path, *, most: int | None = None) -> dict[str, Any]:
    """Read state.pt; what is in it may be anything (see `fitting_state`).

    Args:
        folder: the run's.
        most: bytes that the file may have; any number if None.

    Raises:
        CheckpointError: it is missing, broken, or not what was written.
    """
    path = folder / "state.pt"
    if not path.is_file():
        raise CheckpointError(
            f"Nothing to resume: {path} is missing. Train anew into another folder with --out."
        )
    try:
        _check_archive(path, most)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, OSError),
        *(pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError, OverflowError),
        *(AssertionError, MemoryError),
    ) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} can't be read ({reason}). {_advice(folder)}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: got {brief(state)}; wanted a dict. {_advice(folder)}")
    return state


def most_bytes(model: nn.Module) -> int:
    """What the state of a model may take on disk: raw and averaged weights, two moments each, and
    names of clips that can't be read."""
    return 8 * sum(t.numel() * t.element_size() for t in model.state_dict().values()) + (256 << 20)


def fitting_state(
    folder: Path,
    state: Mapping[str, Any],
    *,
    model: nn.Module,
    averaged: nn.Module | None,
    optimizer: Optimizer,
    total_steps: int,
    scaler: torch.amp.GradScaler | None = None,
) -> dict[str, Any]:
    """A state of this run, in values of its own that the rest of the file can't reach.

    Args:
        folder: the run's, for messages.
        state: what `load_state` gave.
        model, averaged, optimizer: those that the state is for, unchanged; `averaged` as in the
            recipe.
        total_steps: of the whole run.
        scaler: of the loss; None, or one that is not enabled, needs no state.

    Raises:
        CheckpointError: something is missing, of a wrong type, shape or size, or not finite.
    """
    try:
        fitting = _progress(state, total_steps)
        fitting["model"] = _tensors("model", _got(state, "model"), model.state_dict())
        if averaged is None:
            _require(_got(state, "averaged") is None, "averaged", state["averaged"], "none")
        else:
            wanted = averaged.state_dict()
            fitting["averaged"] = _tensors("averaged", _got(state, "averaged"), wanted)
        fitting["optimizer"] = _optimizer(_got(state, "optimizer"), optimizer)
        if scaler is not None and scaler.is_enabled():
            fitting["scaler"] = _scaler(_got(state, "scaler"), scaler)
    except ValueError as error:
        raise CheckpointError(
            f"{folder / 'state.pt'} is no state of this run: {error}. {_advice(folder)}"
        ) from error
    return fitting


def _advice(folder: Path) -> str:
    return (
        f"The weights beside it may be whole: `videorwkv evaluate {folder}/last DATA`. To train, "
        "restore the file from a copy, or train anew into another folder with --out."
    )


def _check_archive(path: Path, most: int | None) -> None:
    """Before anything of it is unpickled. Raises `ValueError`, or what `zipfile` raises."""
    size = path.stat().st_size
    if most is not None and size > most:
        raise ValueError(
            f"it has {decimal(size)}; a state of this model takes {decimal(most)} at most"
        )
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        # PyTorch compresses nothing. Members that are compressed, or overlap, may be far larger
        # than the file.
        if sum(info.file_size for info in infos) > size:
            raise ValueError("its members are larger than the file")
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError("its members are compressed, which PyTorch never does")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged[:80]!r} in it has changed since it was written (CRC-32)")
        pickles = [info for info in infos if info.filename.endswith(".pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} members that end in .pkl; one is wanted")
        if pickles[0].file_size > MOST_PICKLE:
            raise ValueError(f"the names and numbers in it take more than {decimal(MOST_PICKLE)}")
        _check_pickle(archive.read(pickles[0]))


def _check_pickle(content: bytes) -> None:
    """`ValueError` if a pickle names anything that our states don't."""
    nested = 0
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2"):
            raise ValueError(f"it holds {opcode.name}, which no state does")
        if opcode.name == "GLOBAL" and argument not in _KNOWN:
            raise ValueError(f"it names {str(argument)[:80]!r}, which no state does")
        # A tuple in a tuple in a tuple: as a key of a dict, its hash would exhaust the stack.
        nested = nested + 1 if opcode.name in ("TUPLE1", "TUPLE2", "TUPLE3", "TUPLE") else 0
        if nested > 8:
            raise ValueError("tuples in it are nested too deeply")


def _got(values: Any, key: str) -> Any:
    if key not in values:
        raise ValueError(f"{key!r} is missing")
    return values[key]


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}: got {brief(value)}; allowed: {allowed}")


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _progress(state: Mapping[str, Any], total_steps: int) -> dict[str, Any]:
    step, evaluated_at, best, bad = (
        _got(state, name) for name in ("step", "evaluated_at", "best", "bad")
    )
    _require(
        _is_count(step, total_steps), "step", step,
        f"a whole number from 0 to {total_steps}, the steps of this run",
    )  # fmt: skip
    _require(
        _is_count(evaluated_at, step), "evaluated_at", evaluated_at,
        f"a whole number from 0 to {step}, the step",
    )  # fmt: skip
    # Top-1 and minus the loss, which is infinite where no clip could be read.
    is_score = (
        type(best) is list
        and len(best) == 2
        and all(type(value) is float and not math.isnan(value) for value in best)
        and 0 <= best[0] <= 1
    )
    _require(
        is_score or (type(best) is list and not best),
        "best",
        best,
        "no values, or an accuracy in [0, 1] and minus a loss",
    )
    are_texts = type(bad) is dict and all(
        type(path) is str and type(reason) is str for path, reason in bad.items()
    )
    _require(are_texts, "bad", bad, "names of clips with the reasons")
    return {"step": step, "evaluated_at": evaluated_at, "best": list(best), "bad": dict(bad)}


def _tensors(what: str, values: Any, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    _require(isinstance(values, dict), what, values, "a dict of tensors")
    if values.keys() != wanted.keys():
        other = sorted(map(brief, values.keys() ^ wanted.keys()))
        raise ValueError(f"{what}: {len(other)} names missing or unknown, such as {other[0]}")
    return {
        name: _tensor(f"{what}.{name}", values[name], tensor.shape, tensor.dtype)
        for name, tensor in wanted.items()
    }


def _tensor(
    name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, least: float = -math.inf
) -> Tensor:
    _require(isinstance(value, Tensor), name, value, "a tensor")
    is_plain = value.layout == torch.strided and value.device.type == "cpu"
    if not is_plain or value.shape != shape or value.dtype != dtype:
        raise ValueError(
            f"{name}: got {list(value.shape)[:9]} {value.dtype}; this model has {list(shape)} "
            f"{dtype}"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"{name}: holds NaN or infinity, which no training writes")
    if value.numel() and value.min() < least:
        raise ValueError(f"{name}: holds {value.min():g}; it can't be below {least:g}")
    # Several tensors of a file may lie in the same memory.
    return value.detach().clone(memory_format=torch.contiguous_format)


def _optimizer(values: Any, optimizer: Optimizer) -> dict[str, Any]:
    """Moments from the file; rates and their like are the recipe's."""
    _require(isinstance(values, dict), "optimizer", values, "a dict")
    groups, states = _got(values, "param_groups"), _got(values, "state")
    own = optimizer.state_dict()["param_groups"]
    are_ours = (
        type(groups) is list
        and len(groups) == len(own)
        and all(
            type(group) is dict and _same_numbers(group.get("params"), mine["params"])
            for group, mine in zip(groups, own, strict=True)
        )
    )
    wanted = f"{len(own)} groups of the parameters of this model"
    _require(are_ours, "optimizer.param_groups", groups, wanted)
    _require(type(states) is dict, "optimizer.state", states, "a dict")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fitting: dict[int, dict[str, Tensor]] = {}
    for index, state in states.items():
        name = f"optimizer.state[{brief(index)}]"
        _require(_is_count(index, len(parameters) - 1), name, index, "a parameter's number")
        is_adam = type(state) is dict and {"step", *_MOMENTS} == state.keys()
        _require(is_adam, name, state, f"step, {', '.join(_MOMENTS)}")
        shape, dtype = parameters[index].shape, parameters[index].dtype
        fitting[index] = {
            "step": _tensor(f"{name}.step", state["step"], (), torch.float32, 0.0),
            "exp_avg": _tensor(f"{name}.exp_avg", state["exp_avg"], shape, dtype),
            "exp_avg_sq": _tensor(f"{name}.exp_avg_sq", state["exp_avg_sq"], shape, dtype, 0.0),
        }
    return {"state": fitting, "param_groups": own}


def _scaler(values: Any, scaler: torch.amp.GradScaler) -> dict[str, Any]:
    """How the loss is scaled, from the file; by what the scale grows and shrinks is PyTorch's."""
    _require(isinstance(values, dict), "scaler", values, "a dict")
    scale, steps = _got(values, "scale"), _got(values, "_growth_tracker")
    positive = type(scale) is float and 0 < scale < math.inf
    _require(positive, "scaler.scale", scale, "a number above 0")
    most = int(scaler.get_growth_interval())
    _require(_is_count(steps, most), "scaler._growth_tracker", steps, f"0 to {most}")
    return {**scaler.state_dict(), "scale": scale, "_growth_tracker": steps}


def _same_numbers(values: Any, own: list[int]) -> bool:
    # Of whole numbers only: to compare what a pickle may hold could take for ever.
    return type(values) is list and all(type(value) is int for value in values) and values == own
