"""What `train --dry-run` predicts beside what the run takes:
`python -m benchmarks.dry_run [--cpu] [REPEATS] [-- train's arguments]`.

Both in turns, from the start of the command to its end. On a machine that others use, `--cpu`
counts this process's seconds of CPU in place of those that pass: with `--workers 0`, where nothing
waits, they are those of a quiet machine.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from videorwkv.cli.main import main as videorwkv

DEFAULT = ["motion", "--recipe", "motion_demo"]
_UNITS = {"h": 3600.0, "minutes": 60.0, "seconds": 1.0}


def predicted(arguments: list[str]) -> tuple[float, str]:
    """Seconds that a dry run says, and all that it says."""
    said = _run([*arguments, "--dry-run"])
    found = re.search(r"steps would take about ([\d.]+) (h|minutes|seconds)", said)
    if found is None:
        raise SystemExit(f"The dry run said nothing of its time:\n{said}")
    return float(found[1]) * _UNITS[found[2]], said


def measured(arguments: list[str], clock: Callable[[], float]) -> float:
    """Seconds of the run itself."""
    with tempfile.TemporaryDirectory() as folder:
        begun = clock()
        _run([*arguments, "--out", str(Path(folder) / "run")])
        return clock() - begun


def _run(arguments: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if videorwkv(["train", *arguments, "--quiet"]):
            raise SystemExit(f"videorwkv train {' '.join(arguments)} failed.")
    return out.getvalue()


def main() -> None:
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    own, arguments = words[:cut], words[cut + 1 :] or DEFAULT
    clock = time.perf_counter
    if "--cpu" in own:
        own.remove("--cpu")
        arguments = [*arguments, "--workers", "0"]
        clock = time.perf_counter = time.process_time
    repeats = int(own[0]) if own else 3
    # Libraries are loaded once in this process: before both.
    _run([*arguments, "--steps", "2", "--dry-run"])
    print(f"| {' '.join(arguments)} | predicted, s | taken, s | predicted / taken |")
    print("|---|---|---|---|", flush=True)
    said = ""
    for number in range(repeats):
        guess, said = predicted(arguments)
        took = measured(arguments, clock)
        print(f"| {number + 1} | {guess:.1f} | {took:.1f} | {guess / took:.2f} |", flush=True)
    print(said, file=sys.stderr)


if __name__ == "__main__":
    main()
