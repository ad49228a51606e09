"""Several processes that work as one, started by torchrun: who they are, and what they agree on.

PyTorch's own: `torch.distributed`, on gloo for what is said here and NCCL for gradients on GPUs.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from videorwkv.errors import UsageError, VideoRWKVError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Seconds that a process waits for the others, here and at the start.
TIMEOUT = 600.0
# What torchrun sets.
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# How often this process has met others.
_MEETINGS = itertools.count()
# Parts of messages of PyTorch about a process that is gone.
_GONE = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Timed out")


@dataclass(frozen=True)
class Processes:
    """The processes of one job, of which this is one.

    Args:
        rank: number of this process, from 0; the first one writes and speaks.
        size: how many there are.
        local_rank: number of this process on its machine: that of its GPU.
        group: what PyTorch lets them talk by; None if there is but one.
        timeout: seconds that one waits for the others, for messages.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: Any = None
    timeout: float = TIMEOUT

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """The numbers of each process, in the order of their ranks; as many from each.

        Raises:
            VideoRWKVError: another process is gone.
        """
        if self.size == 1:
            return [list(numbers)]
        import torch
        import torch.distributed as dist

        mine = torch.tensor(numbers, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        with self.talking():
            dist.all_gather(every, mine, group=self.group)
        return [numbers.tolist() for numbers in every]

    def collect(self, value: T) -> list[T]:
        """A picklable value of each process, in the order of their ranks; errors as `gather`."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        every: list[Any] = [None] * self.size
        with self.talking():
            dist.all_gather_object(every, value, group=self.group)
        return every

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, alone; its error is raised in all.

        Args:
            make: returns something picklable.
        """
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made: list[Any] = [None, None]
        if self.is_first:
            try:
                made[0] = make()
            except VideoRWKVError as error:
                made[1] = error
        with self.talking():
            dist.broadcast_object_list(
                made, src=dist.get_global_rank(self.group, 0), group=self.group
            )
        if made[1] is not None:
            raise self.agreed(made[1])
        return made[0]

    def each(self, make: Callable[[], T]) -> T:
        """What `make` gives in each process; an error in one is raised in all, and shown once."""
        if self.size == 1:
            return make()
        made: list[T] = []
        failed: VideoRWKVError | None = None
        try:
            made.append(make())
        except VideoRWKVError as error:
            failed = error
        said = self.collect(None if failed is None else str(failed))
        if not any(said):
            return made[0]
        if failed is None or str(failed) in said[: self.rank]:
            failed = failed or VideoRWKVError("Another process has failed.")
            failed.said_elsewhere = True  # type: ignore[attr-defined]
        raise failed

    def device(self, device: str | torch.device) -> str | torch.device:
        """The device of this process where `device` is asked for; errors as `own_device`."""
        return device if self.size == 1 else own_device(device, self.local_rank)

    def agreed(self, error: VideoRWKVError) -> VideoRWKVError:
        """An error that all processes raise at the same time: only the first one shows it."""
        if not self.is_first:
            error.said_elsewhere = True  # type: ignore[attr-defined]
        return error

    @contextmanager
    def talking(self) -> Iterator[None]:
        """A block that needs the others.

        Raises:
            VideoRWKVError: one of them is gone, or has not answered in time.
        """
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if self.size == 1 or not any(part in text for part in _GONE):
                raise
            reason = text.splitlines()[0][:200]
            raise VideoRWKVError(
                f"Process {self.rank} of {self.size}: another one has ended, or has not answered "
                f"within {self.timeout:g} s ({reason}). What it printed says why. --resume goes on "
                "from the last checkpoint; torchrun --max-restarts N does so by itself."
            ) from error


ALONE = Processes()


def is_restarted() -> bool:
    """Whether torchrun has started this process anew, after one has failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def launched() -> tuple[int, int, int]:
    """Rank, number of processes and rank on this machine, as torchrun has set them; (0, 1, 0)
    without a launcher.

    Raises:
        UsageError: the environment speaks of several processes but not of how they meet.
    """
    values = os.environ
    if values.get("WORLD_SIZE", "1").strip() in ("", "1"):
        return 0, 1, 0
    missing = [name for name in _NEEDED if not values.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is {values['WORLD_SIZE']}, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set, so the processes can't meet. Start "
            "with `torchrun --nproc-per-node N -m videorwkv ...`, or unset WORLD_SIZE for one "
            "process."
        )
    try:
        rank, size = int(values["RANK"]), int(values["WORLD_SIZE"])
        local = int(values.get("LOCAL_RANK") or rank)
    except ValueError:
        rank, size, local = 0, 0, 0
    if not 0 <= rank < size:
        raise UsageError(
            f"RANK ({values['RANK']}) and WORLD_SIZE ({values['WORLD_SIZE']}) must be numbers, "
            "0 <= RANK < WORLD_SIZE. torchrun sets them."
        )
    return rank, size, local


@contextmanager
def connected(device: str | torch.device, timeout: float | None = None) -> Iterator[Processes]:
    """Meet the other processes of this job; alone without a launcher. May be nested.

    Args:
        device: where the model is, `auto` or a name: GPUs talk by NCCL.
        timeout: seconds that one waits for the others; None: `TIMEOUT`.

    Raises:
        UsageError: see `launched`; or a GPU that is not this process's own.
        VideoRWKVError: the others have not come in time.
    """
    rank, size, local = launched()
    if size == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    where = own_device(device, local)
    timeout = TIMEOUT if timeout is None else timeout
    begun = dist.is_initialized()
    limit = timedelta(seconds=timeout)
    if not begun:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
        if where.type == "cuda":
            torch.cuda.set_device(where)
        try:
            dist.init_process_group(
                backend, store=_store(rank, size, limit), rank=rank, world_size=size, timeout=limit
            )
        except (RuntimeError, ValueError) as error:
            raise VideoRWKVError(
                f"Process {rank} of {size} does not reach the others at {address} within "
                f"{timeout:g} s ({str(error).splitlines()[0][:200]}). Start all {size} of them, "
                "and check MASTER_ADDR, MASTER_PORT and --rdzv-endpoint."
            ) from error
    try:
        group = dist.new_group(backend="gloo", timeout=limit)
        yield Processes(rank, size, local, group, timeout)
    finally:
        if not begun:
            dist.destroy_process_group()


def _store(rank: int, size: int, limit: timedelta) -> Any:
    """Where the processes leave their addresses for each other."""
    import torch.distributed as dist

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torchrun's own store is kept over its restarts, with the addresses of processes that are gone:
    # one that found them would wait for their answer.
    attempt = f"{size}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_MEETINGS)}"
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    made: Any = dist  # whose names its types do not export
    store = made.TCPStore(host, port, size, serves, limit, multi_tenant=True)
    return made.PrefixStore(f"videorwkv/{attempt}", store)


def own_device(device: str | torch.device, local_rank: int) -> torch.device:
    """The device of a process: with `auto` and `cuda`, each on a machine has a GPU of its own.

    Raises:
        UsageError: fewer GPUs than processes, one GPU for all of them, or no such device.
    """
    import torch

    from videorwkv.utils.device import pick_device

    if str(device) not in ("auto", "cuda"):
        chosen = pick_device(device)
        if chosen.type == "cuda":
            raise UsageError(
                f"--device {device}: each process has a GPU of its own; give --device cuda."
            )
        return chosen
    if device == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UsageError(
            f"Process {local_rank} of this machine has no GPU: there are {count}. Start "
            f"--nproc-per-node {max(1, count)}, or give --device cpu."
        )
    return torch.device("cuda", local_rank)
