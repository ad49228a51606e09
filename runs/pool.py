"""Pool the folds of a cross-validation: accuracy of each fold and over all clips.

    python runs/pool.py runs/handwash/default runs/handwash/published ...

Each folder holds fold0, fold1, ... with evaluation-test/predictions.csv, which `videorwkv evaluate`
writes. A clip that could not be read counts as wrong.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def main(folders: list[str]) -> int:
    for folder in folders:
        files = sorted(Path(folder).glob("fold*/evaluation-test/predictions.csv"))
        if not files:
            print(f"{folder}: no fold*/evaluation-test/predictions.csv", file=sys.stderr)
            return 1
        right, total, shares = 0, 0, []
        for file in files:
            with file.open(newline="", encoding="utf-8") as lines:
                hits = [row["label"] == row["predicted"] for row in csv.DictReader(lines)]
            right, total = right + sum(hits), total + len(hits)
            shares.append(f"{sum(hits) / len(hits):.3f}")
        print(f"{folder}: {right}/{total} = {right / total:.3f}, per fold {' '.join(shares)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
