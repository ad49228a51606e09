"""A CSV file with header `path,label[,split]`; names with commas are quoted as CSV quotes them.

    path,label,split
    clips/a.mp4,waving,train
    "clips/b, second take.mp4",standing up,validation

    path,label,start,end                  segments of a file, in seconds or as 1:02:03.5
    match.mp4,serve,12.5,14
    match.mp4,return,14,15.2

    path,label,start_frame,end_frame      in frames, counted from 0, the last one not included
    match.mp4,serve,300,336

    path,label                            several labels a clip
    a.mp4,running|jumping
    b.mp4,running
    c.mp4,|                             none of the classes

A row without a segment is the whole file. A semicolon or a tab may take the place of the comma.
"""

from __future__ import annotations

from pathlib import Path

from videorwkv.data.formats.table import label_rows, read_table
from videorwkv.data.manifest import Manifest
from videorwkv.data.segments import COLUMNS
from videorwkv.data.tables import read_csv


def read(root: Path, label_names: Path | None = None, group_column: str | None = None) -> Manifest:
    """The rows of the file; relative paths start at its folder, and addresses (`https://...`,
    `s3://...`) stay as they are.

    The column `group_column`, or one that names a person or a session, is the rows' `group`; the
    notes name columns that are not used. Only a `test` row may lack its label. Labels that are
    numbers get their names from `label_names`, see `read_label_names`. Files are not looked for:
    the list is the user's own, so one that is not there is a bad clip, and wrong in evaluation.

    Raises:
        ManifestError: names file and line: no path, no label, no split in a file that has them, a
            clip that is listed twice, half a segment or one that is none, or a column that would
            change what is trained.
    """
    records = read_csv(root, required=("path", "label"), optional=("split", *COLUMNS))
    return label_rows(
        "csv", root.parent, {root: read_table(root, records, group_column)}, label_names
    )
