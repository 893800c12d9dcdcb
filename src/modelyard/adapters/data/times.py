"""Which moment does a cell of a time column mean?"""

from __future__ import annotations

import re
from datetime import date, datetime

import numpy as np
import pandas as pd

from modelyard.errors import DataError

TIME_FORMATS = tuple(
    day + clock
    for day in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d")
    for clock in ("", " %H:%M", " %H:%M:%S")
)
_OFFSET = r"[T ]\d{2}.*(?:[Zz]|[+-]\d{2}:?(?:\d{2})?)$"


def parse_times(values: pd.Series, time_format: str | None = None) -> pd.Series:
    """Return values as UTC times; NaT where one cannot be read. Naive times are taken as UTC.

    Raises DataError for a format that is none.
    """
    if time_format is not None:
        check_time_format(time_format)
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True)
    if pd.api.types.is_numeric_dtype(values) and time_format is None:
        # pandas would read a number as nanoseconds since 1970, which nobody means.
        return pd.Series(pd.NaT, index=values.index, dtype="datetime64[ns, UTC]", name=values.name)
    # Date objects (SQL, Parquet) become text first.
    texts = values.map(str, na_action="ignore")
    if time_format is not None:
        return pd.to_datetime(texts, utc=True, format=time_format, errors="coerce")
    # Each kind by itself: after a time with an offset, pandas 2.3 reads one without as if it had
    # the same.
    naive = ~texts.str.contains(_OFFSET, na=False)
    times = pd.to_datetime(texts.where(naive), utc=True, format="ISO8601", errors="coerce")
    if naive.all():
        return times
    return times.fillna(
        pd.to_datetime(texts.mask(naive), utc=True, format="ISO8601", errors="coerce")
    )


def as_datetime64(times: pd.Series) -> np.ndarray:
    """Return times as numpy's datetime64 in UTC; those without a zone are UTC."""
    stamps = pd.DatetimeIndex(times)
    return (stamps.tz_convert(None) if stamps.tz else stamps).to_numpy()


def check_time_format(time_format: str) -> None:
    """Raise DataError where a strptime format holds a directive that does not exist, or twice."""
    try:
        pd.to_datetime(pd.Series(["-"]), utc=True, format=time_format, errors="coerce")
    except (ValueError, re.error) as err:
        raise DataError(
            f"time format {time_format!r}: {err}. Write directives that strptime knows, like "
            "%d/%m/%Y %H:%M."
        ) from None


def guess_time_formats(texts: pd.Series) -> tuple[str, ...]:
    """Return the formats that read all of some texts as times: several where days may be months.

    `""` stands for ISO 8601, which leaves no choice.
    """
    if pd.api.types.is_datetime64_any_dtype(texts):
        return ("",)
    if texts.empty or not texts.map(type).isin([str, date, datetime]).all():
        return ()
    few = texts.head(20)
    # ISO 8601 would read the number 2011 as a year, and 20 as a century.
    if few.map(str).str.contains("[-T:]").all() and parse_times(texts).notna().all():
        return ("",)
    fits = [f for f in TIME_FORMATS if parse_times(few, f).notna().all()]
    return tuple(f for f in fits if parse_times(texts, f).notna().all())
