"""Read every clip of a data set from beginning to end and tell what is wrong: `check(manifest)`."""

from __future__ import annotations

import json
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from videorwkv.data.check.copies import make_report
from videorwkv.data.check.inspect_clip import inspect_clip
from videorwkv.data.check.report import CheckReport, Finding
from videorwkv.data.manifest import Manifest
from videorwkv.errors import UsageError
from videorwkv.utils.files import make_folder, usable_cores
from videorwkv.utils.options import dataclass_from_dict
from videorwkv.utils.remote import is_address
from videorwkv.utils.values import open_regular, parse_json, sealed, unsealed
from videorwkv.utils.workers import Lost, WorkerPool

# Seconds for one clip: ten minutes of 720p video on a slow core.
TIMEOUT = 120.0
RESULTS = "results.jsonl"
LONGEST_LINE = 1 << 20
# Raised when a clip may be judged differently than before: older results are then not taken over.
VERSION = 3
# Bytes that a process may take to decode one clip. A broken header can ask for any amount.
MEMORY = 4 << 30


def check(
    manifest: Manifest,
    out: str | Path,
    *,
    workers: int | None = None,
    timeout: float = TIMEOUT,
    quick: bool = False,
    strict: bool = False,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Decode every frame of every clip, in processes that may crash or hang.

    Each result is a line of `results.jsonl` in `out` as soon as it is there. When this is stopped,
    however hard, and called again, clips whose size and time of change are as they were are not
    read again; a clip that took too long is, if `timeout` has grown.

    Args:
        manifest: all of its splits are read, and its missing clips are reported.
        out: folder for the results, new or existing. The report's `save` writes the others.
        workers: processes; one for each core if None.
        timeout: seconds for one clip.
        quick: read all bytes, but decode the first frame alone (see `inspect_clip`).
        strict: damaged clips count as bad.
        on_clip: called with the number of clips that are done and of those that had to be, first
            with 0.

    Raises:
        UsageError: the clips are generated, lie in shards or at an address, a number is out of
            range, or `out` can't be made.
        DataError: processes die without a clip being the reason.
        OSError: the results can't be written.
    """
    if manifest.opener is not None:
        raise UsageError(f"{manifest.name}: its clips are generated, so there is nothing to check.")
    if manifest.shards is not None or any(is_address(row.path) for row in manifest.rows):
        raise UsageError(
            f"{manifest.name}: clips in shards or at an address are not checked; check the files "
            "before they are packed or uploaded."
        )
    workers = usable_cores() if workers is None else workers
    if workers < 1 or not timeout > 0:
        raise UsageError(
            f"check: workers ({workers}) must be at least 1, timeout ({timeout:g} s) above 0."
        )
    out = Path(out)
    make_folder(out)
    paths = {manifest.relative_path(row): row.path for row in manifest.rows}
    findings = dict(_known(out / RESULTS, paths, quick=quick, timeout=timeout))
    todo = {key: path for key, path in paths.items() if key not in findings}
    on_clip(0, len(todo))
    if todo:
        facts = {"version": VERSION, "quick": quick, "timeout": timeout}
        with _append(out / RESULTS) as write:
            inspected = _inspect(todo, min(workers, len(todo)), timeout, quick)
            for done, (key, sign, finding) in enumerate(inspected, start=1):
                findings[key] = finding
                if sign is not None:
                    write({**facts, "path": key, "signature": sign, "finding": asdict(finding)})
                on_clip(done, len(todo))
    return make_report(manifest, findings, quick=quick, strict=strict)


@dataclass(frozen=True)
class _Result:
    """A line of `RESULTS`."""

    version: int
    quick: bool
    timeout: float
    path: str
    signature: str
    finding: Finding


def _known(
    results: Path, paths: dict[str, str], *, quick: bool, timeout: float
) -> Iterator[tuple[str, Finding]]:
    """Earlier results that still hold."""
    if not results.exists():
        return
    latest: dict[str, _Result] = {}
    with open_regular(results) as lines:
        while line := lines.readline(LONGEST_LINE):
            # A line that a killed check left unfinished, or that has changed since, is no result.
            with suppress(ValueError):
                record = unsealed(parse_json(line.decode("utf-8", "replace")))
                if record.get("version") == VERSION:
                    result = dataclass_from_dict(_Result, record)
                    latest[result.path] = result
    for path, result in latest.items():
        impatient = result.finding.verdict == "timed out" and result.timeout < timeout
        superficial = result.quick and not quick
        if path not in paths or impatient or superficial:
            continue
        if result.signature == signature(paths[path]):
            yield path, result.finding


@contextmanager
def _append(results: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write records behind what is there, each at once."""
    with results.open("ab") as file:
        if file.tell():
            # Ends a line that a killed check may have left unfinished.
            file.write(b"\n")

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(sealed(record)).encode() + b"\n")
            file.flush()

        yield write


def _inspect(
    todo: dict[str, str], workers: int, timeout: float, quick: bool
) -> Iterator[tuple[str, str | None, Finding]]:
    """Clip, its signature, and what was found; the signature is None if the next check is to look
    again."""
    work = partial(_work, quick=quick)
    with WorkerPool(work, workers=workers, timeout=timeout, initializer=_confine) as pool:
        for key, path in todo.items():
            pool.submit(key, path)
        for _ in todo:
            name, answer = pool.next()
            key = str(name)
            if isinstance(answer, Lost):
                sign = signature(todo[key]) if answer.by_its_task else None
                verdict = "timed out" if answer.timed_out else "crashed"
                yield key, sign, Finding(verdict=verdict, detail=answer.reason)
            else:
                yield key, *answer


def _work(path: str, *, quick: bool) -> tuple[str | None, Finding]:
    # Before it is read: if it changes meanwhile, the next check looks again.
    sign = signature(path)
    try:
        return sign, inspect_clip(path, quick=quick)
    except MemoryError:
        detail = f"decoding it takes more than {MEMORY >> 30} GiB of memory"
        return sign, Finding(verdict="unreadable", detail=detail)
    except Exception as error:  # noqa: BLE001
        # Ruined files find defects of libraries; the other clips are to be checked all the same.
        return sign, Finding(verdict="unreadable", detail=f"{type(error).__name__}: {error}")


def _confine() -> None:
    """What a process must not do to the machine while it reads ruined files."""
    # A decoder that dies says so, and the report does, too; here it would run through the progress.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    if sys.platform != "linux":
        return
    import resource

    # Thousands of crashes would leave thousands of core files.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    status = Path("/proc/self/status").read_text()
    taken = int(status.partition("VmData:")[2].split()[0]) << 10
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = taken + MEMORY
    soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, most))


def signature(path: str | Path) -> str | None:
    """Changes when the file, or a file of the folder, does; from sizes and times of change. None if
    there is nothing."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return f"{status.st_size}-{status.st_mtime_ns}"
        with os.scandir(path) as entries:
            states = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
    except OSError:
        return None
    return f"{len(states)}-{zlib.crc32(repr(states).encode(errors='surrogateescape')):08x}"
