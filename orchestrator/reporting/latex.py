"""Tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re

from orchestrator.reporting.sections import Table

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "≈": r"$\approx$",
    "●": r"$\bullet$", "<": r"\textless{}", ">": r"\textgreater{}", "…": r"\dots{}", "×": r"$\times$",
}  # fmt: skip
MINUS = re.compile(r"(?<![\w.)\]])-(?=\.?\d)")
"""Before a number; between words and digits it is a hyphen."""
PREAMBLE = "% \\usepackage{booktabs}\n"
MARKED = "\\textbf{{{}}}"


def as_latex(text: str) -> str:
    """Plain text that LaTeX sets as it is; one line."""
    return "".join(SIGNS.get(sign, sign) for sign in MINUS.sub("−", " ".join(text.split())))


def latex_table(heading: str, table: Table) -> str:
    """A floating table with caption and label, for ``\\usepackage{booktabs}``; rows that stand out are bold."""
    columns = "".join("l" if column in table.text else "r" for column in range(len(table.header)))
    rows = [
        " & ".join(MARKED.format(cell) if index in table.marked and cell else cell for cell in map(as_latex, row))
        for index, row in enumerate(table.rows)
    ]
    label = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{as_latex(heading)}}}",
        f"  \\label{{tab:{label}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {' & '.join(map(as_latex, table.header))} \\\\",
        r"    \midrule",
        *(f"    {row} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
