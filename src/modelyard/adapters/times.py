"""Which moment does a cell of a time column mean?"""

from __future__ import annotations

import pandas as pd

from modelyard.errors import DataError

TIME_FORMATS = tuple(
    date + clock
    for date in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d")
    for clock in ("", " %H:%M", " %H:%M:%S")
)


def parse_times(values: pd.Series, time_format: str | None = None) -> pd.Series:
    """Return values as UTC times; NaT where one cannot be read. Naive times are taken as UTC."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True)
    if pd.api.types.is_numeric_dtype(values) and time_format is None:
        # pandas would read a number as nanoseconds since 1970, which nobody means.
        return pd.Series(pd.NaT, index=values.index, dtype="datetime64[ns, UTC]", name=values.name)
    # Date objects (SQL, Parquet) become text first; a text with an offset is converted to UTC.
    texts = values.map(str, na_action="ignore")
    return pd.to_datetime(texts, utc=True, format=time_format or "ISO8601", errors="coerce")


def guess_time_format(texts: pd.Series) -> str | None:
    """Return the one format that reads all of some texts as times; None where none does.

    `""` stands for ISO 8601. Raises DataError where the days could be months as well.
    """
    if pd.api.types.is_datetime64_any_dtype(texts):
        return ""
    if not len(texts) or texts.map(lambda text: isinstance(text, float)).any():
        return None
    few = texts.head(20)
    # ISO 8601 would read the number 2011 as a year, and 20 as a century.
    if few.map(str).str.contains("[-T:]").all() and parse_times(texts).notna().all():
        return ""
    fits = [f for f in TIME_FORMATS if parse_times(few, f).notna().all()]
    fits = [f for f in fits if parse_times(texts, f).notna().all()]
    if len(fits) > 1:
        raise DataError(
            f"column {texts.name!r} can be read as {' and as '.join(fits)}, like {texts.iloc[0]!r}."
        )
    return fits[0] if fits else None
