"""Pool the folds of a cross-validation: accuracy of each fold and over all clips.

    python experiments/pool.py [--folds 4] runs/handwash/default runs/handwash/published ...

Each folder holds fold0, fold1, ... with evaluation-test/predictions.csv, which `videorwkv evaluate`
writes. A clip that could not be read counts as wrong. With --folds, fewer of them are an error.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Pool the folds of a cross-validation.")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--folds", type=int, default=1, help="how many each folder must have")
    options = parser.parse_args(arguments)
    for folder in options.folders:
        files = sorted(Path(folder).glob("fold*/evaluation-test/predictions.csv"))
        if len(files) < options.folds:
            print(
                f"{folder}: {len(files)} of {options.folds} fold*/evaluation-test/predictions.csv; "
                "train and evaluate the others first",
                file=sys.stderr,
            )
            return 1
        right, total, shares = 0, 0, []
        for file in files:
            with file.open(newline="", encoding="utf-8") as lines:
                hits = [row["label"] == row["predicted"] for row in csv.DictReader(lines)]
            right, total = right + sum(hits), total + len(hits)
            shares.append(f"{sum(hits) / len(hits):.3f}")
        print(
            f"{folder}: {right}/{total} = {right / total:.3f}, {len(files)} folds: "
            f"{' '.join(shares)}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
