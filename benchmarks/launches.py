"""Operations that a training step and an evaluation issue, and what a step keeps in memory.

    python -m benchmarks.launches --model lcr_tiny --frames 16

Nothing is computed: tensors have shapes and no values (`FakeTensorMode`), so that any machine will
do. An operation that PyTorch dispatches and that is no view is counted as one launch; on a GPU that
is about one kernel each. The triton scan's own are counted as the kernels that they launch. Bytes
are those of the tensors that autograd saves for the way back, each storage once, without the
weights: what a second clip adds to those of one. `--scan native` has those of a CPU.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.timing import markdown_table, parser, write_json
from videorwkv.models import LCR, Inputs, create_model
from videorwkv.ops.wkv import scan_backend
from videorwkv.training.optim import make_optimizer

HEADER = ["", "precision", "forward", "backward", "optimiser", "together", "MiB saved a clip"]
# They reserve memory or change a shape: nothing is launched.
FREE = (
    *("empty", "new_empty", "detach", "alias", "_unsafe_view", "lift_fresh", "_reshape_alias"),
    *("device", "promote_types", "_record_function"),
)
# Operations of ours that launch more than a kernel: the sums and casts after them.
KERNELS = {
    **{"scan_states_backward": 6, "scan_read_backward": 3, "scan_short_backward": 3},
    **{"scan_gated_backward": 3, "cell_backward": 2},
}
# Lists of tensors that an operation on all of them takes -> tensors of each that one kernel takes
# (PyTorch's ATen/native/cuda/MultiTensorApply.cuh).
TENSORS_A_KERNEL = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}


class Launches(TorchDispatchMode):
    """Counts what is dispatched inside: `counts`, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        if not (func.is_view or name.startswith(FREE)):
            lists = [len(x) for x in args if isinstance(x, list | tuple) and x]
            kernels = KERNELS.get(name, 1)
            if name.startswith(("_foreach", "_fused")) and lists:
                kernels = math.ceil(lists[0] / TENSORS_A_KERNEL[min(len(lists), 5)])
            self.counts[name] += kernels
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.counts.total()


def count(run: Callable[[], object]) -> Counter[str]:
    """What `run` launches, by the operation's name."""
    with Launches() as launches:
        run()
    return launches.counts


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Inside, what autograd keeps is noted; call what it gives for the bytes so far."""
    own = {x.untyped_storage()._cdata for x in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        yield lambda: sum(storage.nbytes() for storage in kept.values())


def clips(model: LCR, batch: int, frames: int) -> Inputs:
    """Black clips of the model's size."""
    shape = batch, frames, model.config.image_size, model.config.image_size
    return Inputs(torch.zeros(*shape, 3).byte(), torch.zeros(shape).byte())


def training_step(
    make: Callable[[], nn.Module], inputs: Sequence[Any], precision: str
) -> dict[str, Any]:
    """Launches of a step on one clip, by part; and bytes saved a clip. `inputs` of one, and of
    two."""
    model = make().train()
    optimizer = make_optimizer(model, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.99), fused=True)

    def loss(batch: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(inputs[batch - 1])
        labels = torch.zeros(batch, dtype=torch.long)
        return nn.functional.cross_entropy(logits.float(), labels)

    with saved_bytes(model) as now, Launches() as forward:
        found = loss(1)
        one = now()
    with saved_bytes(model) as now:
        second = loss(2)
        two = now()
    del second
    parts = {"forward": forward.counts, "backward": count(found.backward)}
    optimizer.step()  # makes its state
    parts["optimiser"] = count(optimizer.step)
    return {"parts": parts, "bytes": two - one}


def evaluation(model: LCR, batch: int, frames: int, precision: str) -> Counter[str]:
    """Launches of one batch of clips without gradients."""
    model.eval()
    x = clips(model, batch, frames)
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), half:
        return count(lambda: model(x))


def measure(
    name: str,
    frames: int,
    batch: int,
    precisions: Sequence[str],
    *,
    recompute: bool = False,
    scan: str = "triton",
    **changes: Any,
) -> dict[str, Any]:
    """All figures of a model: `training` and `evaluation`, by precision."""
    found: dict[str, Any] = {"training": {}, "evaluation": {}}
    with FakeTensorMode(allow_non_fake_inputs=True), scan_backend(scan):
        for precision in precisions:

            def make() -> LCR:
                made = create_model(name, num_classes=400, **changes)
                if recompute:
                    made.enable_recompute()
                return made

            model = make()
            given = [clips(model, count, frames) for count in (1, 2)]
            found["training"][precision] = training_step(make, given, precision)
            found["evaluation"][precision] = evaluation(model, batch, frames, precision)
    return found


def rows(found: Mapping[str, Any], batch: int) -> Iterator[list[str]]:
    for precision, step in found["training"].items():
        totals = [part.total() for part in step["parts"].values()]
        mib = step["bytes"] / 2**20
        counts = [f"{n:,}" for n in (*totals, sum(totals))]
        yield ["training step", precision, *counts, f"{mib:,.0f}"]
    for precision, counts in found["evaluation"].items():
        total = f"{counts.total():,}"
        yield [f"evaluation of {batch} clips", precision, total, "", "", total, ""]


def main() -> int:
    # Or the Triton scan needs a GPU, even in name; triton itself is imported later.
    os.environ.setdefault("TRITON_INTERPRET", "1")
    made = parser(__doc__)
    made.add_argument("--model", default="lcr_tiny", help="preset (lcr_tiny)")
    made.add_argument("--frames", type=int, default=16, help="of a clip (16)")
    made.add_argument("--batch", type=int, default=8, help="clips of an evaluation (8)")
    made.add_argument("--recompute", action="store_true", help="with the option of training")
    made.add_argument("--past", help="own, below or none (as the preset is)")
    made.add_argument("--scan", default="triton", help="backend of the scan (triton)")
    made.add_argument("--precision", default="float32,bfloat16", help="(float32,bfloat16)")
    made.add_argument("--most", type=int, default=0, help="also the N most frequent operations (0)")
    options = made.parse_args()
    found = measure(
        options.model, options.frames, options.batch, options.precision.split(","),
        recompute=options.recompute,
        scan=options.scan,
        **({} if options.past is None else {"past": options.past}),
    )  # fmt: skip
    print(f"{options.model}, {options.frames} frames\n")
    print(markdown_table(HEADER, list(rows(found, options.batch)), words=HEADER[:2]))
    for part, counts in found["training"][options.precision.split(",")[-1]]["parts"].items():
        for name, number in counts.most_common(options.most):
            print(f"{part:10} {name:32} {number:,}")
    write_json(options.json, {"model": options.model, "frames": options.frames, **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
