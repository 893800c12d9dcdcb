"""What does a person read about rows that were looked at before training?"""

from __future__ import annotations

from modelyard.adapters.pages import number, table
from modelyard.domain.data_checks import Checked, Finding, Level
from modelyard.domain.releases import Delivery

_MARKS = {Level.OK: "✓", Level.WARN: "!", Level.BLOCK: "✗"}
_MOST_LINES = 200
_OUTCOME = {
    Level.OK: "Nothing is wrong with them.",
    Level.WARN: "They are trained on; look at what was found.",
    Level.BLOCK: "Nothing was trained on them. Mend the rows, or say in the config's `data.checks` "
    "what is known and meant, and deliver again.",
}


def checks_page(delivery: Delivery, checked: Checked, link: str | None) -> str:
    """Return the page of one delivery's data checks: verdict, and a table of the findings."""
    parts = [
        f"# Data checks: {delivery.model} → {checked.level.upper()} {_MARKS[checked.level]}",
        f"{checked.words[0].upper()}{checked.words[1:]}. {_OUTCOME[checked.level]}",
    ]
    if checked.findings:
        rows = [_row(finding) for finding in checked.findings[:_MOST_LINES]]
        head = ("", "level", "check", "column", "value", "limit", "finding", "what to do")
        parts += ["## Findings", table(head, rows)]
    left_out = len(checked.findings) - _MOST_LINES + checked.further
    if left_out > 0:
        parts.append(f"And {left_out:,} more, none of them graver.")
    if delivery.left_out:
        columns = table(("column", "why"), list(delivery.left_out.items())[:_MOST_LINES])
        parts += ["## Columns that are no feature", columns]
    if link:
        parts.append(f"[What was found, and each column drawn, in MLflow]({link})")
    return "\n\n".join(parts)


def _row(finding: Finding) -> tuple[object, ...]:
    return (
        _MARKS[finding.level],
        finding.level,
        finding.check,
        finding.column or "",
        number(finding.value),
        finding.limit,
        finding.reason,
        finding.mend,
    )
