"""Every figure that needs a GPU, in one call of at most nine and a half minutes.

    python -m benchmarks.gpu --out results/gpu         # the most valuable ones first
    python -m benchmarks.gpu --out results/gpu --dry   # tiny, on the CPU: does every line run?

Each section is a process of its own with a limit of its own: a crash, a hang or a lack of memory
costs that section alone. Each figure is a line of `rows.jsonl`, written at once. Random weights,
no decoding; times are medians after a warm-up, and `clips_s` is by the fastest call.
"""

# mypy: disable-error-code="misc"
# What a loop has made is bound to a lambda by its defaults, whose types mypy can't tell.
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.peers import PEERS
from videorwkv.models import LCR, Inputs, create_model
from videorwkv.models import lcr as lcr_file
from videorwkv.ops import triton_scan
from videorwkv.ops.wkv import wkv
from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import fit
from videorwkv.preprocess.on_device import ON_DEVICE, edge_map_on_device, resize_on_device
from videorwkv.run.environment import environment
from videorwkv.training.optim import make_optimizer

TOTAL = 560  # seconds
Case = Callable[[], object]


@dataclass(frozen=True)
class Bench:
    """Where figures are made, and where they go.

    Args:
        out: a folder.
        device: `cuda`, or `cpu` for a dry run.
        dry: tiny sizes, and each case once.
    """

    out: Path
    device: str
    dry: bool

    def tell(self, what: str, **row: Any) -> None:
        line = json.dumps({"what": what, **row})
        with (self.out / "rows.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def time(self, case: Case, seconds: float) -> dict[str, float]:
        """Milliseconds a call: median, minimum, and of queueing alone."""
        for _ in range(1 if self.dry else 3):
            case()
        self.synchronise()
        start = time.perf_counter()
        case()
        queued = time.perf_counter() - start
        self.synchronise()
        one = time.perf_counter() - start
        times = []
        for _ in range(1 if self.dry else max(3, min(200, int(seconds / max(one, 1e-6))))):
            start = time.perf_counter()
            case()
            self.synchronise()
            times.append(1e3 * (time.perf_counter() - start))
        times.sort()
        return {"ms": times[len(times) // 2], "least_ms": times[0], "queueing_ms": 1e3 * queued}

    def kernels(self, case: Case) -> dict[str, Any]:
        """How many kernels a call launches, their time, and the largest of them."""
        if self.device != "cuda":
            return {}
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            case()
            torch.cuda.synchronize()
        times: Counter[str] = Counter()
        count = 0
        for event in profiler.events() or ():
            if str(event.device_type).endswith("CUDA"):
                count += 1
                times[event.name[:60]] += event.device_time / 1e3
        return {"kernels": count, "kernels_ms": sum(times.values()), "top": times.most_common(12)}

    def graphed(self, case: Case) -> Case:
        """The call as one CUDA graph; what it reads and writes must stay where it is."""
        if self.device != "cuda":
            return case
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                case()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            case()
        return graph.replay

    def attempt(self, what: str, about: dict[str, Any], measure: Callable[[], Any]) -> None:
        """One row; what fails says so in it, and the section goes on."""
        start = time.perf_counter()
        try:
            found = measure()
        except (RuntimeError, ValueError, ImportError) as error:
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        self.tell(what, **about, **found, took_s=time.perf_counter() - start)

    def clips(self, model: LCR, batch: int, frames: int) -> Inputs:
        side = model.config.image_size
        shape = batch, frames, side, side
        pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=self.device)
        edges = (torch.rand(shape, device=self.device) < 0.1).to(torch.uint8) * 255
        return Inputs(pixels, edges)

    def model(self, name: str, **changes: Any) -> LCR:
        torch.manual_seed(0)
        if self.dry:
            changes = {"depth": 2, "image_size": 32, **changes}
        return create_model(name, num_classes=400, **changes).to(self.device)


def peaks(bench: Bench) -> None:
    """What this GPU reaches: a large product, a copy, and the products of an LCR."""
    values = environment()
    bench.tell("environment", **{name: str(value) for name, value in values.items()})
    side = 64 if bench.dry else 8192
    x = torch.randn(side, side, device=bench.device, dtype=torch.bfloat16)
    found = bench.time(lambda: x @ x, 1.0)
    bench.tell("peak", tflops=2 * side**3 / found["least_ms"] / 1e9, **found)
    y = torch.empty(1 << (16 if bench.dry else 31), device=bench.device, dtype=torch.uint8)
    z = torch.empty_like(y)
    found = bench.time(lambda: z.copy_(y), 1.0)
    bench.tell("copy", gigabytes_s=2 * y.numel() / found["least_ms"] / 1e6, **found)
    for rows in (196,) if bench.dry else (196, 3136, 50176):
        for width in (192, 384):
            a = torch.randn(rows, width, device=bench.device, dtype=torch.bfloat16)
            w = torch.randn(width, 2 * width, device=bench.device, dtype=torch.bfloat16)
            found = bench.time(lambda a=a, w=w: a @ w, 0.2)
            tflops = 4 * rows * width**2 / found["least_ms"] / 1e9
            bench.tell("product", rows=rows, width=width, tflops=tflops, **found)


def scan_right(bench: Bench) -> None:
    """The kernels' outputs and all gradients against float64, in the types that models have."""
    if bench.device == "cuda":
        bench.tell("failing", answer=triton_scan.failing("cuda"))
    full, half, small = torch.float32, torch.bfloat16, torch.float16
    cases = (
        (197, 64, (full, full, full)), (197, 64, (half, half, half)), (197, 64, (full, full, half)),
        (49, 32, (half, half, half)), (49, 32, (full, full, full)), (32, 64, (half, half, half)),
        (1, 64, (full, full, full)), (784, 64, (small, small, small)), (33, 48, (full, full, full)),
    )  # fmt: skip
    for length, width, types in cases[-1:] if bench.dry else cases:
        generator = torch.Generator().manual_seed(0)
        given = [torch.randn(3, length, 3, width, generator=generator).to(t) for t in types]
        given += [-2 * torch.rand(3, width, generator=generator)]
        given += [torch.rand(3, width, generator=generator)]

        def run(
            backend: str, device: str, dtype: torch.dtype | None, given: list[Tensor] = given
        ) -> list[Tensor]:
            leaves = [x.to(device, dtype or x.dtype, copy=True).requires_grad_() for x in given]
            out = wkv(*leaves, backend=backend)
            loss = out.to(torch.promote_types(out.dtype, torch.float32)).square().sum()
            return [x.detach().double().cpu() for x in (out, *torch.autograd.grad(loss, leaves))]

        def errors(run: Callable[..., list[Tensor]] = run) -> dict[str, Any]:
            wanted = run("chunked", "cpu", torch.float64)
            got = run("triton" if bench.device == "cuda" else "chunked", bench.device, None)
            pairs = zip(got, wanted, strict=True)
            return {"errors": [float((a - b).norm() / b.norm().clamp_min(1e-9)) for a, b in pairs]}

        about = {"length": length, "width": width, "types": [str(t)[6:] for t in types]}
        bench.attempt("right", about, errors)


def training(bench: Bench) -> None:
    """Training steps of LCR and its peers: as they are, with less kept, compiled, as one graph."""
    frames = 2 if bench.dry else 16
    models = (("lcr_tiny", 20.2, (16, 96)), ("lcr_nano", 0.604, (16, 256)))
    for name, gmac, batches in models[:1] if bench.dry else models:
        for way in ("eager", "recompute", "graph", "compiled")[: 3 if bench.dry else 4]:
            for batch in (1,) if bench.dry else batches:
                model = bench.model(name).train()
                if way == "recompute":
                    model.enable_recompute()
                if way == "compiled":
                    model.enable_compile()
                x = bench.clips(model, batch, frames)
                _train(bench, model, lambda model=model, x=x: model(x), batch, name, way, gmac)
        for peer, work in _peers_of(name, bench.dry):
            for way in ("eager", "graph"):
                for batch in (1,) if bench.dry else (16, 96):
                    torch.manual_seed(0)
                    network = PEERS[peer].build(400, 16).to(bench.device).train()
                    pixels = torch.randn(batch, 3, 16, 224, 224, device=bench.device)
                    _train(
                        bench, network, lambda n=network, x=pixels: n(x), batch, peer, way, work
                    )  # fmt: skip


def _peers_of(name: str, dry: bool) -> Sequence[tuple[str, float]]:
    if dry:
        return ()
    if name == "lcr_tiny":
        return (("videomae_small", 56.9), ("videomae_tiny", 20.1))
    return (("x3d_m", 4.73),)


def _train(
    bench: Bench, network: nn.Module, call: Callable[[], Tensor], batch: int, name: str, way: str,
    gmac: float,
) -> None:  # fmt: skip
    labels = torch.zeros(batch, dtype=torch.long, device=bench.device)
    optimizer = make_optimizer(
        network, lr=1e-4, weight_decay=0.05, betas=(0.9, 0.99), fused=bench.device == "cuda"
    )
    for group in optimizer.param_groups:
        group["capturable"] = bench.device == "cuda"

    def step() -> None:
        with torch.autocast(bench.device, torch.bfloat16):
            logits = call()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=way != "graph")

    def measure() -> dict[str, Any]:
        if bench.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        case = bench.graphed(step) if way == "graph" else step
        found = bench.time(case, 2.0)
        speed = {
            "clips_s": 1e3 * batch / found["least_ms"],
            "tflops": 6 * gmac * batch / found["least_ms"],
        }
        if bench.device == "cuda":
            speed["GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return {**speed, **found, **({} if way == "graph" else bench.kernels(case))}

    bench.attempt("training", {"model": name, "way": way, "batch": batch}, measure)


def scan_fast(bench: Bench) -> None:
    """The scan beside PyTorch's attention, forward, and forward with backward."""
    sizes = ((1, 49),) if bench.dry else ((256, 49), (256, 196), (64, 784), (16, 3136), (4, 12544))
    for dtype in (torch.bfloat16, torch.float32):
        for batch, length in sizes:
            shape = batch, length, 3, 64
            r, k, v = (torch.randn(shape, device=bench.device, dtype=dtype) for _ in range(3))
            decay = -torch.rand(3, 64, device=bench.device)
            given = [r, k, v, decay, torch.ones_like(decay)]
            fused = "triton" if bench.device == "cuda" else "native"
            for name, function, inputs in (
                (fused, lambda *x, name=fused: wkv(*x, backend=name), given),
                ("chunked", lambda *x: wkv(*x, backend="chunked"), given),
                ("sdpa", _attention, given[:3]),
            ):
                for mode in ("forward", "both"):
                    case = _scan_case(function, inputs, mode)
                    about = {"name": name, "dtype": str(dtype)[6:], "mode": mode}
                    bench.attempt(
                        "scan", {**about, "batch": batch, "length": length},
                        lambda case=case: bench.time(case, 0.3),
                    )  # fmt: skip


def _attention(r: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r, k, v = (x.transpose(1, 2) for x in (r, k, v))
    return F.scaled_dot_product_attention(r, k, v).transpose(1, 2)


def _scan_case(function: Callable[..., Tensor], inputs: Sequence[Tensor], mode: str) -> Case:
    if mode == "forward":
        return lambda: function(*inputs)
    leaves = [x.clone().requires_grad_() for x in inputs]
    grad = torch.ones_like(inputs[0])
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad)


def clips(bench: Bench) -> None:
    """Clips without gradients, in pieces of two sizes, beside the peers."""
    frames = 2 if bench.dry else 16
    batches = (1,) if bench.dry else (1, 16, 64)
    for name in ("lcr_tiny",) if bench.dry else ("lcr_tiny", "lcr_nano"):
        for half in (False, True):
            fast = bench.model(name).eval().for_inference(half=half)
            for batch in batches:
                x = bench.clips(fast, batch, frames)
                case = _without_gradients(lambda fast=fast, x=x: fast(x))
                for piece in (1024, lcr_file.GPU_PIECE_TOKENS):
                    lcr_file.GPU_PIECE_TOKENS, kept = piece, lcr_file.GPU_PIECE_TOKENS
                    bench.attempt(
                        "clip", {"model": name, "half": half, "batch": batch, "piece": piece},
                        lambda case=case: {**bench.time(case, 0.5), **bench.kernels(case)},
                    )  # fmt: skip
                    lcr_file.GPU_PIECE_TOKENS = kept
    for peer in () if bench.dry else ("videomae_tiny", "videomae_small", "x3d_m"):
        network = PEERS[peer].network(400, frames).to(bench.device).bfloat16()
        for batch in batches:
            shape = batch, 3, frames, 224, 224
            pixels = torch.randn(shape, device=bench.device, dtype=torch.bfloat16)
            case = _without_gradients(lambda network=network, x=pixels: network(x))
            bench.attempt(
                "clip", {"model": peer, "half": True, "batch": batch},
                lambda case=case: bench.time(case, 0.5),
            )  # fmt: skip


def _without_gradients(call: Case) -> Case:
    return torch.inference_mode()(call)


def streams(bench: Bench) -> None:
    """A new frame of some streams: as it is, and as one graph that changes the state in place."""
    for name in ("lcr_nano",) if bench.dry else ("lcr_tiny", "lcr_nano"):
        fast = bench.model(name).eval().for_inference(half=True)
        for batch in (1,) if bench.dry else (1, 32, 256):
            x, state = bench.clips(fast, batch, 1), fast.init_state(batch)

            def frame(fast: LCR = fast, x: Inputs = x, state: Any = state) -> None:
                _, new = fast.step(x, state)
                for own, latest in zip(state, new, strict=True):
                    if isinstance(own, Tensor) and isinstance(latest, Tensor):
                        own.copy_(latest)

            case = _without_gradients(frame)
            for way in ("eager", "graph"):
                bench.attempt(
                    "frame", {"model": name, "batch": batch, "way": way},
                    lambda case=case, way=way: bench.time(
                        bench.graphed(case) if way == "graph" else case, 0.5
                    ),
                )  # fmt: skip


def edges(bench: Bench) -> None:
    """Frames that are resized and marked where they are: the same as on a CPU? How fast?"""
    rng = np.random.default_rng(0)
    number, size = (2, 32) if bench.dry else (64, 224)
    shape = (45, 60) if bench.dry else (270, 360)
    # Soft, and with noise: edges of every length.
    small = rng.integers(0, 256, (number, 9, 12, 3), dtype=np.uint8)
    frames = np.stack([cv2.resize(x, shape[::-1], interpolation=cv2.INTER_CUBIC) for x in small])
    there = torch.from_numpy(frames).to(bench.device)
    for method in ON_DEVICE:

        def run(method: str = method) -> Tensor:
            square = resize_on_device(there[:, :, : shape[0]], size)
            return edge_map_on_device(square, method, EdgeOptions())

        def measure(method: str = method, run: Callable[[], Tensor] = run) -> dict[str, Any]:
            start = time.perf_counter()
            wanted = edge_map(fit(frames[:, :, : shape[0]], size), method)
            on_cpu = time.perf_counter() - start
            same = bool(np.array_equal(run().cpu().numpy(), wanted))
            found = bench.time(run, 1.0)
            return {**found, "same": same, "cpu_ms": 1e3 * on_cpu, **bench.kernels(run)}

        bench.attempt("edges", {"method": method, "frames": number}, measure)


def curves(bench: Bench) -> None:
    """Twenty training steps on the same batches: does a GPU learn what a CPU learns?"""
    found = {}
    for device, half in (("cpu", False), (bench.device, False), (bench.device, True)):
        torch.manual_seed(0)
        model = create_model("lcr_nano", num_classes=8, image_size=32, depth=2).to(device).train()
        optimizer = make_optimizer(
            model, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.99), fused=device == "cuda"
        )
        generator, losses = torch.Generator().manual_seed(1), []
        for _ in range(2 if bench.dry else 20):
            shape = (2, 2, 32, 32, 3) if bench.dry else (8, 8, 32, 32, 3)
            frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            labels = (frames[:, 0, 0, 0, 0].long() % 8).to(device)
            inputs = Inputs(frames, frames[..., 0] // 128 * 255).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=half):
                logits = model(inputs)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        found[f"{device} {'bfloat16' if half else 'float32'}"] = losses
    bench.tell("curves", **found)


# Seconds of each, most valuable first; time that one leaves goes to the others.
SECTIONS: dict[str, tuple[Callable[[Bench], None], int]] = {
    "peaks": (peaks, 25),
    "scan_right": (scan_right, 75),
    "training": (training, 200),
    "clips": (clips, 90),
    "scan_fast": (scan_fast, 60),
    "streams": (streams, 50),
    "edges": (edges, 10),
    "curves": (curves, 50),
}


def processes(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each section in turn, as long as there is time."""
    start = time.monotonic()
    command = [sys.executable, "-u", "-m", "benchmarks.gpu", "--out", str(options.out)]
    command += ["--dry"] if options.dry else []
    for name, (_, limit) in SECTIONS.items():
        left = TOTAL - (time.monotonic() - start)
        if left < 15:
            yield {"section": name, "ended": "no time left"}
            continue
        try:
            done = subprocess.run([*command, "--section", name], timeout=min(left, 1.4 * limit))
            yield {"section": name, "ended": done.returncode, "at": time.monotonic() - start}
        except subprocess.TimeoutExpired:
            yield {"section": name, "ended": "limit", "at": time.monotonic() - start}


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, required=True, help="folder for rows.jsonl")
    made.add_argument("--dry", action="store_true", help="tiny sizes on the CPU")
    made.add_argument("--section", choices=SECTIONS, help="this one alone, in this process")
    options = made.parse_args(arguments)
    if not (options.dry or torch.cuda.is_available()):
        made.error("there is no GPU of CUDA here; --dry tries every section on the CPU")
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.out, "cpu" if options.dry else "cuda", options.dry)
    if options.section:
        SECTIONS[options.section][0](bench)
        return 0
    for row in processes(options):
        bench.tell("section", **row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
