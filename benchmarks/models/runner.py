"""`bench(options)`: everything built, counted, then timed in turns in one process."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.models.lengths import LengthRow, measure_lengths
from benchmarks.models.peers import find_peers, has_transformers
from benchmarks.models.results import SpeedReport, SpeedRow
from benchmarks.models.subjects import OwnSubject, PeerSubject, Subject
from benchmarks.models.ways import find_ways
from benchmarks.timing import Case, interleaved, machine, peak_memory
from videorwkv.errors import CheckpointError, ConfigError, UsageError
from videorwkv.exporting.frames import generated
from videorwkv.inference.exported import ExportedModel, open_exported
from videorwkv.inference.recogniser import is_exported, load_run
from videorwkv.models import LCR, build_model, list_models, model_config
from videorwkv.models.masking import Masks

# Seconds of one turn: several frames in a row, as a stream runs; after every single frame the
# caches would be full of another model's weights.
TURN = 0.3
GEMM = 1024
GEMM_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """What to compare.

    Args:
        models: presets, runs' folders, or exported files.
        against: peers by name, `softmax` (each model with softmax attention in the scan's place),
            or `all`.
        ways: names of `benchmarks.models.ways.WAYS`, or `all` that can run here.
        num_frames: T, frames of a clip.
        batch_size: B, streams or clips side by side.
        threads: of PyTorch and of the runtimes.
        seconds: of timing, roughly.
        tube_mask_ratio: also time each model with this mask ratio; 0: don't.
        clip_frames: where models are exported, with a graph of so many frames for clips; None: step
            by step.
        lengths: frames of the clips and streams of the table over length; empty: none.
        memory_limit: GiB that a clip of that table may take.
        time_limit: seconds that a clip of that table may take.
    """

    models: tuple[str, ...] = ("lcr_tiny", "lcr_nano")
    against: tuple[str, ...] = ()
    ways: tuple[str, ...] = ("eager", "inference")
    num_frames: int = 16
    batch_size: int = 1
    threads: int = 1
    seconds: float = 30.0
    tube_mask_ratio: float = 0.0
    clip_frames: int | None = None
    lengths: tuple[int, ...] = ()
    memory_limit: float = 8.0
    time_limit: float = 60.0

    def __post_init__(self) -> None:
        for name in ("num_frames", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"bench: {name} ({getattr(self, name)}) must be 1 or more.")
        for name in ("seconds", "memory_limit", "time_limit"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bench: {name} ({getattr(self, name)}) must be above 0.")
        Masks(tube_mask_ratio=self.tube_mask_ratio)  # checks itself
        if not self.models:
            raise ConfigError("bench: name at least one model.")
        if any(length < 2 for length in self.lengths):
            raise ConfigError(f"bench: lengths {self.lengths} must be 2 frames or more.")
        if self.lengths and tuple(sorted({*self.lengths})) != self.lengths:
            raise ConfigError(f"bench: lengths {self.lengths} must grow.")


def bench(options: SpeedOptions, *, on_note: Callable[[str], None] = lambda _: None) -> SpeedReport:
    """Time models and peers, in turns, on the same frames.

    Args:
        options: what to compare.
        on_note: told what is going on, and what had to be left out.

    Raises:
        UsageError: an unknown model, peer or way, or one whose library is missing.
    """
    ways = find_ways(options.ways)
    peers = _peers(options, on_note)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        on_note(text)

    with _threads(options.threads), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        subjects = _subjects(options, peers, Path(folder))
        about = machine()
        memory = _memory(subjects, on_note)
        lengths = _lengths(options, subjects, on_note)
        rows, cases = [], {}
        for subject in subjects:
            on_note(f"{subject.title}: counting")
            macs, parameters = subject.macs(), subject.parameters()
            for way in subject.ways(ways):
                on_note(f"{subject.title}: {way}")
                try:
                    made = subject.cases(way)
                except CheckpointError as error:
                    note(f"{subject.title}, {way}: left out: {error}")
                    continue
                # Converters leave copies of the weights in cycles.
                gc.collect()
                for unit, case in made.items():
                    cases[f"{subject.title}|{way}|{unit}"] = case
                    rows.append(
                        partial(
                            SpeedRow,
                            model=subject.title,
                            way=way,
                            unit=unit,
                            peer=subject.peer,
                            image_size=subject.image_size,
                            precision=subject.precision(way),
                            tube_mask_ratio=getattr(subject, "tube_mask_ratio", 0.0),
                            parameters=parameters,
                            macs=macs.get(unit),
                            memory=memory.get((subject.title, unit)) if way == "eager" else None,
                        )
                    )
        for name, dtype in GEMM_TYPES.items():
            x = torch.randn(GEMM, GEMM).to(dtype)
            cases[f"gemm {name}"] = partial(torch.mm, x, x)
        on_note(f"timing {len(cases)} calls in turns")
        times = interleaved(cases, seconds=options.seconds, least=3, sample=TURN)
        gemm = {name: times[f"gemm {name}"] for name in GEMM_TYPES}
        flops = 2 * GEMM**3
        peaks = {name: flops / took.cpu_min / 1e6 for name, took in gemm.items()}
        done = [_finish(row, times) for row in rows]
    return SpeedReport(
        machine=about,
        num_frames=options.num_frames,
        batch_size=options.batch_size,
        threads=options.threads,
        peaks=peaks,
        rows=tuple(done),
        lengths=lengths,
        notes=tuple(notes),
    )


def _finish(row: Any, times: dict[str, Any]) -> SpeedRow:
    key = "|".join(row.keywords[name] for name in ("model", "way", "unit"))
    made: SpeedRow = row(times=times[key])
    return made


def _peers(options: SpeedOptions, on_note: Callable[[str], None]) -> dict[str, Any]:
    names = [name for name in options.against if name != "softmax"]
    if options.lengths:
        find_peers(["videomae_tiny"])
    peers = find_peers(names) if names else {}
    long = [name for name, peer in peers.items() if peer.least_frames > options.num_frames]
    if "all" not in names:
        if long:
            raise UsageError(
                f"bench: num_frames ({options.num_frames}) is too few for {', '.join(long)}, which "
                f"needs {peers[long[0]].least_frames}; raise --frames, or choose other peers with "
                "--against."
            )
        return peers
    if long:
        on_note(f"{options.num_frames} frames are too few for {', '.join(long)}: left out")
        peers = {name: peer for name, peer in peers.items() if name not in long}
    if not has_transformers():
        on_note("transformers is not here (pip install 'videorwkv[bench]'): its peers are left out")
        peers = {name: peer for name, peer in peers.items() if not peer.extra}
    return peers


def _subjects(options: SpeedOptions, peers: dict[str, Any], folder: Path) -> list[Subject]:
    """What to time, the models first."""
    softmax = not {"softmax", "all"}.isdisjoint(options.against)
    shape = {"streams": options.batch_size, "num_frames": options.num_frames}
    subjects: list[Subject] = []
    for name in options.models:
        model = load(name)
        inputs = generated(model.config, **shape)
        room = folder / str(len(subjects))
        make = partial(OwnSubject, inputs=inputs, clip_frames=options.clip_frames)
        if isinstance(model, ExportedModel):
            ratio = model.metadata["tube_mask_ratio"]
            subjects.append(make(title=name, model=model, folder=room, tube_mask_ratio=ratio))
            continue
        subjects.append(make(title=name, model=model, folder=room))
        if options.tube_mask_ratio:
            subjects.append(
                make(
                    title=f"{name}, {options.tube_mask_ratio:.0%} masked",
                    model=model,
                    folder=folder / str(len(subjects)),
                    tube_mask_ratio=options.tube_mask_ratio,
                )
            )
        if softmax:
            body = build_model(replace(model.config, mixer="softmax")).eval()
            room = folder / str(len(subjects))
            subjects.append(make(title=f"{name}, softmax", model=body, folder=room, peer=True))
    if peers:
        frames = generated(model_config("lcr_tiny"), **shape)
        subjects += [PeerSubject(peer_model=peer, inputs=frames) for peer in peers.values()]
    return subjects


def load(name: str) -> LCR | ExportedModel:
    """A preset with random weights, a run's model, or an exported file.

    Raises:
        UsageError: there is no such model.
        CheckpointError: the run can't be read.
    """
    if name in list_models():
        return build_model(model_config(name)).eval()
    if is_exported(name):
        return open_exported(name)
    if not Path(name).exists():
        raise UsageError(
            f"{name!r} is no model, run or exported file. Models: {', '.join(list_models())}."
        )
    model: LCR = load_run(name).model()
    return model.eval()


def _memory(
    subjects: Sequence[Subject], on_note: Callable[[str], None]
) -> dict[tuple[str, str], float]:
    """MiB at the peak of each eager call, beyond the weights; nothing off Linux.

    Before any runtime with threads of its own has started: the process is forked.
    """
    if sys.platform != "linux":
        return {}
    found: dict[tuple[str, str], float] = {}
    for subject in subjects:
        if subject.ways(("eager",)) != ("eager",):
            continue
        on_note(f"{subject.title}: memory")
        for unit in subject.cases("eager"):

            def make(subject: Subject = subject, unit: Any = unit) -> Case:
                return subject.cases("eager")[unit]

            peak = peak_memory(make, warm_up)
            if peak is not None:
                found[subject.title, str(unit)] = peak
    return found


def warm_up() -> None:
    """Load the code of products and convolutions."""
    x = torch.zeros(1, 3, 16, 16)
    torch.nn.functional.conv2d(x, torch.zeros(8, 3, 3, 3))
    torch.mm(x[0, 0], x[0, 0])


def _lengths(
    options: SpeedOptions, subjects: Sequence[Subject], on_note: Callable[[str], None]
) -> tuple[LengthRow, ...]:
    if not options.lengths:
        return ()
    own = next(
        (s for s in subjects if isinstance(s, OwnSubject) and isinstance(s.model, LCR)), None
    )
    if own is None:
        raise UsageError("bench: --lengths needs a preset or a run; an exported file is no such.")
    assert isinstance(own.model, LCR)
    return measure_lengths(
        own.title,
        own.model,
        options.lengths,
        seconds=options.seconds / 4,
        memory_limit=options.memory_limit,
        time_limit=options.time_limit,
        on_note=on_note,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
