"""Writes the page of a study, and the book: all of them behind one first page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from videorwkv.files import write_atomic
from videorwkv.study import load_study
from videorwkv.study.compare import make_page
from videorwkv.study.html import document, findings_list, write_html
from videorwkv.study.page import Page
from videorwkv.study.plan import Settings, runs_on
from videorwkv.study.report import write_markdown
from videorwkv.study.runner import Say, run_study


class Written(NamedTuple):
    """A study's page and where it lies."""

    page: Page
    markdown: Path
    html: Path


def study(
    reference: str,
    settings: Settings | None = None,
    *,
    out: str | Path = "runs/study",
    say: Say = lambda text: None,
) -> Written:
    """Run a study and write its page.

    Args:
        reference: a study's name (`videorwkv study --list`), or a Python file that defines `STUDY`.
        settings: budget, data, device and what else is the same for all studies.
        out: folder for NAME.md, NAME.html and the plots.
        say: takes a line of progress.

    Raises:
        UsageError, DataError: the study, its options or its data can't be used.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    page = make_page(run_study(reference, settings or Settings(), say=say))
    folder = Path(out)
    written = Written(page, write_markdown(page, folder), write_html(page, folder))
    # For the book: a page may be written long before it.
    summary = {"title": page.title, "question": page.question, "findings": page.findings}
    write_atomic(folder / f"{page.name}.json", (json.dumps(summary, indent=1) + "\n").encode())
    return written


def book(
    references: Sequence[str],
    settings: Settings | None = None,
    *,
    out: str | Path = "runs/study",
    say: Say = lambda text: None,
) -> Path:
    """Run studies one after the other and write index.md and index.html; returns the latter."""
    start = time.perf_counter()
    written: list[str] = []
    for reference in references:
        if runs_on(load_study(reference), settings or Settings()):
            study(reference, settings, out=out, say=say)
            written.append(Path(reference).stem)
        else:
            say(f"{reference} is left out: it needs the generated data")
    say(f"{len(written)} studies in {(time.perf_counter() - start) / 60:.1f} min")
    return write_index(written, Path(out))


def write_index(names: Sequence[str], folder: Path) -> Path:
    """The first page: each question with its findings, and where to read on."""
    summaries = [
        (name, json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))) for name in names
    ]
    title = "The study"
    lines = [f"# {title}"]
    body = [f"<h1>{title}</h1>"]
    for name, summary in summaries:
        found = summary["findings"]
        lines += [f"## [{name}]({name}.md)", f"*{summary['question']}*"]
        lines.append("\n".join(f"- {sentence}" for sentence in found))
        body += [
            f'<h2><a href="{escape(name)}.html">{escape(name)}</a></h2>',
            f'<p class="question">{escape(summary["question"])}</p>',
            findings_list(found),
        ]
    write_atomic(folder / "index.md", ("\n\n".join(lines) + "\n").encode())
    path = folder / "index.html"
    write_atomic(path, document(title, "\n".join(body)).encode())
    return path
