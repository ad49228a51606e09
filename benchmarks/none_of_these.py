"""What runs name in streams in which nothing happens, beside what they find in clips.

    python -m benchmarks.none_of_these runs/negatives runs/plain --data motion:test=400,size=48

Each run streams ten minutes of every generated kind of nothing, and the test clips. Recall: the
share of the clips whose class was named at some time. Exit code 1 if the first run gives more than
one false alarm in ten minutes of a kind, at the threshold that it goes by, or finds less than
`--keep` of what the last run finds at threshold 0.5.
"""

from __future__ import annotations

import argparse
import sys

from videorwkv.data.load import load_manifest
from videorwkv.data.nothing import NothingOptions, nothing_manifest
from videorwkv.inference.alarms import count_alarms
from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.stream import StreamOptions, stream
from videorwkv.inference.stream_options import THRESHOLD


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", default="motion:test=400,size=48", help="with a test split")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=10, help="of each kind of nothing")
    parser.add_argument("--keep", type=float, default=0.9)
    parser.add_argument("--smooth", type=float, default=StreamOptions.smooth)
    options = parser.parse_args(arguments)
    nothing = nothing_manifest(NothingOptions(minutes=options.minutes))
    kinds = [row.path.rpartition("/")[2] for row in nothing.rows]
    print("| run | threshold | recall | named wrong | " + " | ".join(kinds) + " |")
    print("|---|---|---|---|" + "---|" * len(kinds))
    worst: dict[str, int] = {}
    recalls: dict[str, dict[float, float]] = {}
    for run in options.runs:
        recogniser = Recogniser.open(run, what="stream", fastest=True)
        own = {recogniser.threshold} - {None}
        thresholds = sorted({THRESHOLD, *(x for x in own if x is not None)})
        found = count_alarms(
            recogniser, nothing, StreamOptions(smooth=options.smooth), thresholds=thresholds
        )
        counts = list(found.by_video.values())
        recalls[run] = {}
        for place, threshold in enumerate(thresholds):
            right, wrong = named(recogniser, options, threshold)
            recalls[run][threshold] = right
            alarms = [count[place] for count in counts]
            if threshold == (recogniser.threshold or THRESHOLD):
                worst[run] = max(alarms)
            cells = (run, f"{threshold:g}", f"{right:.3f}", f"{wrong:.3f}", *map(str, alarms))
            print("| " + " | ".join(cells) + " |", flush=True)
    first = Recogniser.open(options.runs[0], what="stream")
    kept = recalls[options.runs[0]][first.threshold or THRESHOLD]
    kept /= max(recalls[options.runs[-1]][THRESHOLD], 1e-9)
    allowed = options.minutes / 10
    print(f"most false alarms of a kind: {worst[options.runs[0]]} (at most {allowed:g})")
    print(f"recall beside that of {options.runs[-1]} at {THRESHOLD}: {kept:.1%}")
    return int(worst[options.runs[0]] > allowed or kept < options.keep)


def named(
    recogniser: Recogniser, options: argparse.Namespace, threshold: float
) -> tuple[float, float]:
    """Shares of the test clips whose class is named at some time, and of those where another is."""
    data = load_manifest(options.data).split("test")
    rows = data.rows[: options.clips]
    right = wrong = 0
    for row in rows:
        with (
            data.open(row) as video,
            stream(recogniser, video, threshold=threshold, smooth=options.smooth) as predictions,
        ):
            names = {one.label for one in predictions} - {None}
        right += row.label in names
        wrong += bool(names - {row.label})
    return right / len(rows), wrong / len(rows)


if __name__ == "__main__":
    sys.exit(main())
