"""Which rows of an inference log are wanted, and how is that said in SQL?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from modelyard.adapters.data.labels import ID as LABEL_ID
from modelyard.adapters.data.labels import KNOWN_AT, LABEL
from modelyard.adapters.data.log_archive import ArchivedSegment
from modelyard.adapters.data.log_segments import (
    AT,
    FIXED,
    ID,
    LAST,
    RELEASE,
    REQUEST_ID,
    ROW,
    TIME,
)
from modelyard.domain.values import as_utc
from modelyard.serving.inference_log import DEFAULT_SEGMENT_AGE

MIRRORED = "mirrored-"
"""What the id of a request begins with that nobody waits for: a copy for a release in the shadow.
Its answers are kept beside the others', and no reader takes them for traffic."""

LABEL_TIME = "label_time"
"""When the label became known."""


@dataclass(frozen=True)
class Labels:
    """The labels of a model that were known by a moment."""

    folder: Path
    known_by: datetime

    def files(self) -> list[str]:
        return [str(file) for file in sorted(self.folder.glob("*.parquet"))]


@dataclass(frozen=True)
class LogSpan:
    """Which rows are wanted: those with a time in [start, end)."""

    start: datetime
    end: datetime
    column: str = TIME
    """Event time, or the time of the answer."""
    release: str | None = None
    """The one that answered; None: any."""
    most: int | None = None
    """Of more rows, as many are drawn."""
    since: datetime | None = None
    """Only rows that were answered after this moment are wanted; None: whenever."""
    mirrored: bool = False
    """Whether the copies are wanted that a release in the shadow answered, and nothing else."""

    @property
    def where(self) -> str:
        """Return SQL, of which start and end are the first two parameters."""
        by = "" if self.release is None else f" AND {RELEASE} = {quoted(self.release)}"
        copies = "" if self.mirrored else "NOT "
        return (
            f"{self.column} >= $1 AND {self.column} < $2{by}"
            f" AND {copies}starts_with({REQUEST_ID}, '{MIRRORED}')"
        )

    def may_count(self, said: Mapping[str, Any]) -> bool:
        """Whether a request, as a replica logged it, can have rows that are wanted."""
        if self.release is not None and said.get("release") != self.release:
            return False
        return self.column != AT or self.start <= datetime.fromisoformat(said["at"]) < self.end

    def may_be_in(self, segment: ArchivedSegment) -> bool:
        if self.since is not None and segment.begun < self.since - DEFAULT_SEGMENT_AGE:
            return False
        if self.column == TIME:
            return segment.last >= self.start and segment.first < self.end
        return self.start - DEFAULT_SEGMENT_AGE <= segment.begun < self.end


def log_span(start: datetime, end: datetime) -> LogSpan:
    return LogSpan(as_utc(start), as_utc(end))


def log_query(
    there: Sequence[str], span: LogSpan, columns: Sequence[str] | None, labels: Labels | None
) -> str:
    """Return SQL for the rows of a span: parameters are its bounds, and when labels were known.

    A row that was logged twice, by two replicas, counts as it was first answered.
    """
    middle = [name for name in there if name not in {*FIXED.names, *LAST.names}]
    wanted = [*FIXED.names, *middle, *LAST.names] if columns is None else list(columns)
    listed = [f"{'' if name in there else 'NULL AS '}{_name(name)}" for name in wanted]
    # By a hash of what a row is known by: whoever asks again gets the same rows.
    drawn = f"ORDER BY hash({REQUEST_ID}, {ROW}) LIMIT {span.most}" if span.most else ""
    steps = [
        f"""spanned AS (
            SELECT * FROM logged WHERE {span.where}
            QUALIFY row_number() OVER (PARTITION BY {REQUEST_ID}, {ROW}, {ID} ORDER BY {AT}) = 1
            {drawn}
        )"""
    ]
    joined = ""
    if labels and not labels.files():
        listed += [f"NULL AS {LABEL}", f"CAST(NULL AS TIMESTAMPTZ) AS {LABEL_TIME}"]
    elif labels:
        files = ", ".join(map(quoted, labels.files()))
        steps.append(f"""outcomes AS (
            SELECT {LABEL_ID} AS {ID}, {LABEL}, CAST({KNOWN_AT} AS TIMESTAMPTZ) AS {LABEL_TIME}
            FROM read_parquet([{files}], union_by_name=true, filename=true)
            WHERE {LABEL_TIME} <= $3 AND {LABEL_ID} IN (SELECT {ID} FROM spanned)
            QUALIFY row_number() OVER (
                PARTITION BY {LABEL_ID} ORDER BY {LABEL_TIME} DESC, filename DESC) = 1
        )""")
        listed += [LABEL, LABEL_TIME]
        joined = f"LEFT JOIN outcomes USING ({ID})"
    return f"""WITH {", ".join(steps)} SELECT {", ".join(listed)} FROM spanned {joined}
        ORDER BY {TIME}, {AT}, {REQUEST_ID}, {ROW}"""


def repeats_query(span: LogSpan) -> str:
    """Return SQL for how many rows of a span have the id of another one; parameters likewise."""
    return f"""SELECT coalesce(sum(rows), 0) FROM (
        SELECT count(*) AS rows FROM (
            SELECT DISTINCT {REQUEST_ID}, {ROW}, {ID} FROM logged WHERE {span.where}
        ) GROUP BY {ID} HAVING rows > 1
    )"""


def late_query() -> str:
    """Return SQL for the numbers of the windows `asked` that rows came to after they were read."""
    return f"""SELECT DISTINCT number FROM asked JOIN logged
        ON {TIME} >= first AND {TIME} < beyond AND {AT} > read_at
        WHERE NOT starts_with({REQUEST_ID}, '{MIRRORED}')"""


def _name(column: str) -> str:
    """Return a column's name as SQL has it."""
    return '"' + column.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """Return a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
