"""The tables of a page as files: CSV for programs, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studies.report import Page, Table
from videorwkv.utils.files import write_atomic, write_csv

_LATEX = str.maketrans(
    {
        **{c: rf"\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "−": r"$-$",
    }
)


def write_numbers(page: Page, folder: Path) -> list[Path]:
    """Write each table of a page as NAME/table-N.csv and NAME/table-N.tex, N from 1."""
    tables = [b for section in page.sections for b in section.blocks if isinstance(b, Table)]
    written = []
    for number, table in enumerate(tables, start=1):
        path = folder / page.name / f"table-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path.with_suffix(".csv"), [table.header, *table.rows])
        write_atomic(path.with_suffix(".tex"), latex(table).encode())
        written += [path.with_suffix(".csv"), path.with_suffix(".tex")]
    return written


def latex(table: Table) -> str:
    """A table for a paper, with the rules of the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    caption = [rf"\caption{{{table.caption.translate(_LATEX)}}}"] if table.caption else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            *caption,
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            line(table.header),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
