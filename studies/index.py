"""Writes the page of a study, and the book: all of them behind one first page."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from studies.compare import make_page
from studies.load import STUDIES, load_study
from studies.numbers import write_numbers
from studies.plan import Settings, runs_on
from studies.report import Page, escape, write_markdown
from studies.runner import Say, run_study
from videorwkv.utils.files import write_atomic


class Written(NamedTuple):
    """A study's page and where it lies."""

    page: Page
    markdown: Path


def study(
    reference: str,
    settings: Settings | None = None,
    *,
    out: str | Path = "runs/study",
    say: Say = lambda text: None,
) -> Written:
    """Run a study, write its page, and name it on the folder's first page.

    Args:
        reference: a study's name (`videorwkv study --list`), or a Python file that defines `STUDY`.
        settings: budget, data, device and what else is the same for all studies.
        out: folder for NAME.md, its pictures in NAME/, NAME.json, and index.md.
        say: takes a line of progress.

    Raises:
        UsageError, DataError: the study, its options or its data can't be used.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    page = make_page(run_study(reference, settings or Settings(), say=say), reference)
    folder = Path(out)
    written = Written(page, write_markdown(page, folder))
    write_numbers(page, folder)
    # For the book: a page may be written long before it.
    summary = {"title": page.title, "question": page.question, "findings": page.findings}
    write_atomic(folder / f"{page.name}.json", (json.dumps(summary, indent=1) + "\n").encode())
    write_index(folder)
    return written


def book(
    references: Sequence[str],
    settings: Settings | None = None,
    *,
    out: str | Path = "runs/study",
    say: Say = lambda text: None,
) -> Path:
    """Run studies one after the other; returns the first page of them, index.md."""
    start = time.perf_counter()
    written = 0
    for reference in references:
        if runs_on(load_study(reference), settings or Settings()):
            study(reference, settings, out=out, say=say)
            written += 1
        else:
            say(f"{reference} is skipped: it needs the generated data")
    say(f"{written} studies in {(time.perf_counter() - start) / 60:.1f} min")
    return write_index(Path(out))


def write_index(folder: Path) -> Path:
    """The first page of a folder of studies: each question with its findings, and where to read on.

    Those that come with the package are first, in their order.
    """
    order = list(STUDIES)
    written = {path.stem: _summary(path) for path in folder.glob("*.json")}
    summaries = [(name, summary) for name, summary in written.items() if summary is not None]
    summaries.sort(key=lambda pair: (_place(order, pair[0].removesuffix("-part")), pair[0]))
    lines = ["# The study"]
    for name, summary in summaries:
        heading = summary["title"].removeprefix("Study: ")
        lines += [f"## [{escape(heading)}]({name}.md)", f"*{escape(summary['question'])}*"]
        lines.append("\n".join(f"- {escape(sentence)}" for sentence in summary["findings"]))
    path = folder / "index.md"
    write_atomic(path, ("\n\n".join(lines) + "\n").encode())
    return path


def _summary(path: Path) -> Mapping[str, Any] | None:
    """What `study` wrote of a page; None for a file of another kind."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # no JSON, or no text
        return None
    ours = isinstance(values, dict) and values.keys() >= {"title", "question", "findings"}
    return values if ours and path.with_suffix(".md").exists() else None


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
