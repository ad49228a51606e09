from __future__ import annotations

import csv
from pathlib import Path

from studies.numbers import latex, write_numbers
from studies.report import Page, Section, Table, Text


def test_tables_become_csv_and_latex(tmp_path: Path) -> None:
    table = Table(("model.edges", "top-1"), [("50 % of c_1 & more", ".91 ± .02")], "On #1")
    page = Page("own", "Own", "?", [Section("a", [Text("x"), table]), Section("b", [table])])
    written = write_numbers(page, tmp_path)
    assert [path.name for path in written] == [
        "table-1.csv", "table-1.tex", "table-2.csv", "table-2.tex"
    ]  # fmt: skip
    with written[0].open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [list(table.header), *map(list, table.rows)]
    text = written[1].read_text()
    assert r"50 \% of c\_1 \& more & .91 $\pm$ .02 \\" in text
    assert r"\caption{On \#1}" in text
    assert text.count(r"\begin{tabular}{lr}") == text.count(r"\end{tabular}") == 1
    assert r"a\textbackslash{}b" in latex(Table((r"a\b",), []))
