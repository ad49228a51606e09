"""Ruin real clips in a thousand ways and see whether `videorwkv data check` lives and what it says.

    python -m benchmarks.mutants [FOLDER] [--count 1000] [--seed 0] [--workers 2] [--keep DIR]

Clips of FOLDER up to a size are taken in turn. Each mutant is one clip with one kind of damage, all
from the seed. It is silent if the check calls it ok and remarks on nothing that the original does
not have, although its decoded pictures differ from the original's.
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
from rich.console import Console
from rich.table import Table

import videorwkv
from videorwkv.data.check import check
from videorwkv.data.check.report import Finding
from videorwkv.data.manifest import Row, make_manifest
from videorwkv.utils.progress import Meter

Spans = list[tuple[int, int]]
# Boxes of mp4 and mov, and elements of Matroska and WebM, that hold others.
BOXES = frozenset(b"moov trak mdia minf stbl edts dinf udta mvex moof traf".split())
ELEMENT_IDS = "18538067 1549a966 1654ae6b ae e0 e1 1f43b675 a0 1c53bb6b bb b7 1254c367"
ELEMENTS = frozenset(bytes.fromhex(name) for name in ELEMENT_IDS.split())
OUTCOMES = ("bad", "truncated", "damaged", "remark", "same", "retimed", "silent")


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    ruined = bytearray(content)
    for _ in range(rng.choice((1, 3, 10, 100))):
        ruined[rng.randrange(len(ruined))] ^= 1 << rng.randrange(8)
    return bytes(ruined)


def set_bytes(content: bytes, rng: random.Random) -> bytes:
    ruined = bytearray(content)
    for _ in range(rng.choice((1, 3, 10, 100))):
        ruined[rng.randrange(len(ruined))] = rng.randrange(256)
    return bytes(ruined)


def set_header_bytes(content: bytes, rng: random.Random) -> bytes:
    """The same where sizes, counts and codec settings stand."""
    ruined = bytearray(content)
    for _ in range(rng.choice((1, 3, 10))):
        ruined[rng.randrange(min(len(ruined), 2048))] = rng.randrange(256)
    return bytes(ruined)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def zero(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def noise(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def drop(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + content[end:]


def swap(content: bytes, rng: random.Random) -> bytes:
    """Exchange two neighbours: boxes, elements or chunks of one parent; else two equal pieces."""
    groups = [spans for spans in _spans(content) if len(spans) > 1]
    if groups:
        first, second = sorted(rng.sample(rng.choice(groups), 2))
    else:
        length = max(1, len(content) // 50)
        places = sorted(rng.sample(range(len(content) // length), 2))
        first, second = ((p * length, (p + 1) * length) for p in places)
    (a, b), (c, d) = first, second
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


KINDS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits,
    set_bytes,
    set_header_bytes,
    cut,
    zero,
    noise,
    drop,
    swap,
)


def _chunk(content: bytes, rng: random.Random) -> tuple[int, int]:
    length = max(1, int(len(content) * rng.choice((0.001, 0.01, 0.05, 0.2))))
    start = rng.randrange(len(content) - length + 1)
    return start, start + length


def _spans(content: bytes) -> Iterator[Spans]:
    """The parts of every parent, outermost first."""
    if content[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        yield from _nested(content, 0, len(content), _box)
    elif content[:4] == b"\x1a\x45\xdf\xa3":
        yield from _nested(content, 0, len(content), _element)
    elif content[:4] == b"RIFF":
        yield from _nested(content, 12, len(content), _riff_chunk)


def _nested(
    content: bytes, at: int, end: int, parse: Callable[[bytes, int], tuple[int, int, bool]]
) -> Iterator[Spans]:
    spans: Spans = []
    inner: Spans = []
    while at + 8 <= end:
        body, after, has_parts = parse(content, at)
        if after <= at or after > end:
            break
        spans.append((at, after))
        if has_parts:
            inner.append((body, after))
        at = after
    yield spans
    for start, stop in inner:
        yield from _nested(content, start, stop, parse)


def _box(content: bytes, at: int) -> tuple[int, int, bool]:
    length = int.from_bytes(content[at : at + 4], "big")
    return at + 8, at + (length or len(content)), content[at + 4 : at + 8] in BOXES


def _element(content: bytes, at: int) -> tuple[int, int, bool]:
    id_length = 9 - max(1, content[at].bit_length())
    place = at + id_length
    if place >= len(content) or content[place] == 0:
        return at, at, False
    length = 9 - content[place].bit_length()
    size = int.from_bytes(content[place : place + length], "big") & ((1 << 7 * length) - 1)
    body = place + length
    is_unknown = size == (1 << 7 * length) - 1
    end = len(content) if is_unknown else body + size
    return body, end, content[at:place] in ELEMENTS


def _riff_chunk(content: bytes, at: int) -> tuple[int, int, bool]:
    length = int.from_bytes(content[at + 4 : at + 8], "little")
    return at + 12, at + 8 + length + length % 2, content[at : at + 4] == b"LIST"


def make_mutants(clips: list[Path], folder: Path, count: int, seed: int) -> dict[str, Path]:
    """`count` mutants as files; their names -> the original."""
    originals: dict[str, Path] = {}
    for number in range(count):
        clip = clips[number % len(clips)]
        kind = KINDS[number // len(clips) % len(KINDS)]
        name = f"{number:04d}-{kind.__name__}-{clip.name}"
        content = kind(clip.read_bytes(), random.Random(f"{seed}-{number}"))
        (folder / name).write_bytes(content)
        originals[name] = clip
    return originals


def outcome(mutant: Finding, original: Finding) -> str:
    """One of `OUTCOMES`, the last four for an ok: with a remark that the original lacks, with equal
    pictures, with equal ones at another rate, with others."""
    if mutant.verdict in ("truncated", "damaged"):
        return mutant.verdict
    if mutant.verdict != "ok":
        return "bad"
    if set(_remarks(mutant)) - set(_remarks(original)):
        return "remark"
    if mutant.frames_hash != original.frames_hash:
        return "silent"
    lengths = mutant.seconds or 0.0, original.seconds or 0.0
    return "same" if math.isclose(*lengths, rel_tol=0.01) else "retimed"


def _remarks(finding: Finding) -> list[str]:
    return [remark for remark in finding.remarks if not remark.startswith("copy:")]


class Memory:
    """Resident memory, in MB, of this process and of its largest child, looked at now and then."""

    def __init__(self) -> None:
        self.parent: list[float] = []
        self.child: list[float] = []

    def look(self) -> None:
        children = Path("/proc/thread-self/children")
        if not children.exists():
            return
        self.parent.append(_resident("self"))
        self.child.append(max((_resident(pid) for pid in children.read_text().split()), default=0))

    @staticmethod
    def early_and_late(values: list[float]) -> tuple[float, float]:
        """Medians of the second and of the last tenth."""
        tenth = max(1, len(values) // 10)
        return statistics.median(values[tenth : 2 * tenth]), statistics.median(values[-tenth:])


def _resident(pid: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0] if "VmRSS:" in status else 0) / 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="clips to ruin copies of")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--max-bytes", type=int, default=700_000, help="largest clip to ruin")
    parser.add_argument("--keep", type=Path, help="leave the mutants here")
    options = parser.parse_args(arguments)
    clips = [
        path
        for path in sorted(options.folder.rglob("*"))
        if path.is_file() and 0 < path.stat().st_size <= options.max_bytes
    ]
    if not clips:
        print(f"{options.folder}: no clip up to {options.max_bytes:,} bytes", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        report(options, clips, options.keep or Path(scratch) / "mutants", Path(scratch))
    return 0


def report(options: argparse.Namespace, clips: list[Path], folder: Path, scratch: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    before = _check(clips, scratch / "originals", options)
    usable = [clip for clip in clips if before[str(clip)].verdict in ("ok", "damaged")]
    originals = make_mutants(usable, folder, options.count, options.seed)
    memory = Memory()
    begun = time.monotonic()
    # Not clip by clip, or memory early and late could not be compared.
    names = random.Random(options.seed).sample(sorted(originals), len(originals))
    found = _check([folder / name for name in names], scratch / "mutants-check", options, memory)
    seconds = time.monotonic() - begun
    outcomes = {
        name: outcome(found[str(folder / name)], before[str(clip)])
        for name, clip in originals.items()
    }
    _print_machine()
    print(
        f"{len(originals):,} mutants of {len(usable)} clips, seed {options.seed}, "
        f"{options.workers} workers: {seconds:.0f} s"
    )
    _print_table("by kind", outcomes, lambda name: name.split("-")[1])
    codecs = {name: before[str(clip)].codec for name, clip in originals.items()}
    _print_table("by codec of the original", outcomes, codecs.__getitem__)
    verdicts = Counter(finding.verdict for finding in found.values())
    print("verdicts:", ", ".join(f"{verdict} {n}" for verdict, n in verdicts.most_common()))
    for path, finding in found.items():
        if finding.verdict in ("crashed", "timed out"):
            print(f"  {Path(path).name}: {finding.verdict}: {finding.detail}")
    differ = sum(
        found[str(folder / name)].frames_hash != before[str(clip)].frames_hash
        for name, clip in originals.items()
    )
    silent = Counter(outcomes.values())["silent"]
    print(
        f"{differ:,} decode differently or not at all; {silent} of them silently "
        f"({silent / max(1, differ):.1%})"
    )
    if memory.parent:
        for who, values in (("the check", memory.parent), ("its largest child", memory.child)):
            early, late = Memory.early_and_late(values)
            print(
                f"memory of {who}: {early:.0f} MB early, {late:.0f} MB late, most {max(values):.0f}"
            )


def _check(
    paths: list[Path], out: Path, options: argparse.Namespace, memory: Memory | None = None
) -> dict[str, Finding]:
    manifest = make_manifest("mutants", [Row(str(p), "clip", "train") for p in paths], root="")
    with Meter("mutants", len(paths), "clips") as meter:

        def show(done: int, total: int) -> None:
            meter.update(done)
            if memory is not None:
                memory.look()

        checked = check(
            manifest, out, workers=options.workers, timeout=options.timeout, on_clip=show
        )
    return {clip.row.path: clip.finding for clip in checked.clips}


def _print_machine() -> None:
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = f"{len(models)} x {models[0].partition(':')[2].strip()}" if models else cpu
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    print(
        f"{cpu}; {platform.platform()}; Python {platform.python_version()}, "
        f"videorwkv {videorwkv.__version__}, PyAV {av.__version__}, libavcodec {codec}"
    )


def _print_table(title: str, outcomes: dict[str, str], group: Callable[[str], str]) -> None:
    table = Table(title=title)
    table.add_column("")
    for name in (*OUTCOMES, "all"):
        table.add_column(name, justify="right")
    groups: dict[str, Counter[str]] = {}
    for name, what in outcomes.items():
        groups.setdefault(group(name), Counter())[what] += 1
    for key, counts in groups.items():
        table.add_row(key, *(str(counts[name]) for name in OUTCOMES), str(counts.total()))
    total = Counter(outcomes.values())
    table.add_section()
    table.add_row("all", *(str(total[name]) for name in OUTCOMES), str(total.total()))
    console = Console()
    console.width = max(100, console.width)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
