"""Tables as files for papers and spreadsheets: LaTeX with booktabs, CSV, Markdown.

Names come from outside, so each form escapes what it would take for its own: LaTeX's special characters, what a
spreadsheet would calculate, Markdown's markup. A missing number stays a dash, and an empty cell in CSV.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable

from stillwatt.report.format import MISSING
from stillwatt.report.tables import Column, Table

FORMS = ("tex", "csv", "md")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "α": r"$\alpha$",
    "▼": r"$\downarrow$",
    "▲": r"$\uparrow$",
    "\u00a0": "~",
    "[": "{[}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|#~$!])")
_NUMBER = re.compile(r"[+-]?\d[\d,.]*( ± \d[\d,.]*| \[[-+\d,. ]+\])?( \*)?")
_FORMULA_STARTS = ("=", "+", "-", "@")


def table_text(table: Table, form: str) -> str:
    r"""The table in one form, with a line at its end.

    Args:
        table: What to write.
        form: `tex` (needs `\usepackage{booktabs}`), `csv` or `md`.
    """
    return {"tex": _latex, "csv": _csv, "md": _markdown}[form](table)


def latex_text(text: str) -> str:
    r"""Text that LaTeX sets as it stands.

    >>> latex_text("a_b 50 % ± 1\n{x}")
    'a\\_b 50 \\% $\\pm$ 1 \\{x\\}'
    """
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def markdown_text(text: str) -> str:
    r"""Text that Markdown and HTML show as it stands.

    >>> markdown_text("a|b *c* <img>")
    'a\\|b \\*c\\* &lt;img&gt;'
    """
    return html.escape(_MARKDOWN.sub(r"\\\1", _one_line(text)), quote=False)


def csv_text(text: str) -> str:
    """Text that no spreadsheet calculates; numbers are left alone, a missing one is empty.

    >>> csv_text("=1+1"), csv_text("-0.30 ± 0.02"), csv_text("-1+cmd"), csv_text("–")
    ("'=1+1", '-0.30 ± 0.02', "'-1+cmd", '')
    """
    line = _one_line(text)
    if line == MISSING:
        return ""
    return f"'{line}" if line.lstrip().startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(line) else line


def _one_line(text: str) -> str:
    """Line breaks and control characters as spaces: a cell is one line."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", text)


def _latex(table: Table) -> str:
    kinds = "".join("r" if column.is_number else "l" for column in table.columns)
    lines = [r"\begin{tabular}{" + kinds + "}", r"\toprule", _latex_row(column.title for column in table.columns)]
    lines.append(r"\midrule")
    for row in table.rows:
        if row.is_sum:
            lines.append(r"\midrule")
        lines.append(_latex_row(row.cells))
    lines += [r"\bottomrule", r"\end{tabular}"]
    note = [f"% {_one_line(table.note)}"] if table.note else []
    return "\n".join([f"% {_one_line(table.title)}; needs \\usepackage{{booktabs}}", *note, *lines]) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_text(column.title) for column in table.columns)
    writer.writerows([csv_text(cell) for cell in row.cells] for row in table.rows)
    return text.getvalue()


def _markdown(table: Table) -> str:
    lines = [_markdown_row([column.title for column in table.columns])]
    lines.append("|" + "|".join(_rule(column) for column in table.columns) + "|")
    for row in table.rows:
        cells = [
            _markdown_cell(cell, link) for cell, link in zip(row.cells, row.links or [""] * len(row.cells), strict=True)
        ]
        lines.append("| " + " | ".join(f"**{cell}**" if row.is_sum and cell else cell for cell in cells) + " |")
    note = ["", markdown_text(table.note)] if table.note else []
    return "\n".join([*lines, *note]) + "\n"


def _markdown_cell(text: str, link: str) -> str:
    """A cell, as a link where it leads somewhere; an address of `web_address` needs no escapes between angles."""
    return f"[{markdown_text(text)}](<{link}>)" if link else markdown_text(text)


def _rule(column: Column) -> str:
    return "---:" if column.is_number else "---"


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"
