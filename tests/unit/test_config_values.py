"""Short phrases of a config become values and are written back as they were."""

import pickle
from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from modelyard.config.values import (
    Budget,
    Duration,
    EnvStr,
    FalseAlarms,
    Holdout,
    KOfN,
    RowCount,
    Share,
    WindowExtent,
    format_duration,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("1h", 3600), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_duration_is_read_in_its_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["7", "d", "1.5h", "-1d", "1 day", "", 7, None, "P7D"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_a_duration_longer_than_time_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="ten thousand years"):
        parse_duration("99999999999d")


@pytest.mark.parametrize("text", ["0s", "30s", "90m", "36h", "14d"])
def test_a_duration_is_written_as_it_was_read(text: str) -> None:
    assert format_duration(parse_duration(text)) == text
    assert TypeAdapter(Duration).dump_python(parse_duration(text), mode="json") == text


EXTENT = TypeAdapter(WindowExtent)


def test_a_window_is_a_span_of_time_or_a_number_of_rows() -> None:
    assert EXTENT.validate_python("6h") == timedelta(hours=6)
    assert EXTENT.validate_python(" 500 rows ") == RowCount(rows=500)
    for text in ("6h", "500 rows"):
        assert EXTENT.dump_python(EXTENT.validate_python(text), mode="json") == text
        assert EXTENT.validate_python(EXTENT.validate_python(text)) == EXTENT.validate_python(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 rows", "has no row; write more, like 500 rows"),
        ("500 row", "or a number of rows, like 500 rows"),
        ("-5 rows", "or a number of rows, like 500 rows"),
        ("0d", "longer than nothing, like 1d, or a number of rows"),
        (500, "is no duration"),
    ],
)
def test_what_is_no_window_is_refused(text: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EXTENT.validate_python(text)


def test_a_holdout_is_a_share_of_rows_or_a_span_of_time() -> None:
    share, span = Holdout.model_validate("newest 20%"), Holdout.model_validate("newest 14d")
    assert (share.share, share.span) == (0.2, None)
    assert (span.share, span.span) == (None, timedelta(days=14))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Holdout, "newest 20%"),
        (Holdout, "newest 12.5%"),
        (Holdout, "newest 14d"),
        (KOfN, "2 of 5"),
        (Budget, "3 per 7d"),
        (FalseAlarms, "1 per 1000 windows"),
    ],
)
def test_a_phrase_is_written_as_it_was_read(kind: type, text: str) -> None:
    value = kind.model_validate(text)
    assert value.model_dump() == text
    assert kind.model_validate_json(value.model_dump_json()) == value


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (Holdout, "newest 100%", "less than 100"),
        (Holdout, "newest 0d", "longer than nothing"),
        (Holdout, "oldest 20%", "write it like `newest 20%`"),
        (Holdout, "20%", "write it like"),
        (KOfN, "5 of 2", "swap the numbers"),
        (KOfN, "0 of 2", "greater than or equal to 1"),
        (Budget, "3", "write it like `3 per 7d`"),
        (Budget, "3 per 0d", "longer than nothing"),
        (FalseAlarms, "1 per 2 windows", "ask for fewer"),
        (FalseAlarms, 7, "must be a phrase"),
    ],
)
def test_a_phrase_that_means_nothing_is_refused_with_its_reason(
    kind: type, text: object, why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        kind.model_validate(text)


def test_false_alarms_become_a_probability() -> None:
    assert FalseAlarms.model_validate("2 per 1000 windows").rate == 0.002


@pytest.mark.parametrize(
    ("written", "share"), [("1%", 0.01), ("0.5 %", 0.005), (0.01, 0.01), (0, 0)]
)
def test_a_share_is_a_percentage_or_a_fraction(written: object, share: float) -> None:
    assert TypeAdapter(Share).validate_python(written) == pytest.approx(share)


@pytest.mark.parametrize("written", ["100%", "1 percent", -0.1, 1])
def test_a_share_outside_of_nought_to_one_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Share).validate_python(written)


def test_variables_are_replaced_and_not_written_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    adapter = TypeAdapter(EnvStr)
    url = adapter.validate_python("postgresql://app:${DB_PASSWORD}@db/${DB_NAME:-sales}")
    assert url == "postgresql://app:s3cret@db/sales"
    assert "s3cret" not in repr(url)
    assert b"s3cret" not in adapter.dump_json(url)
    assert adapter.validate_python(url) is url
    assert pickle.loads(pickle.dumps(url)).written == url.written


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    with pytest.raises(ValidationError, match="NOT_SET_HERE, which is not set"):
        TypeAdapter(EnvStr).validate_python("${NOT_SET_HERE}/x.csv")
