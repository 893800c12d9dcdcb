"""How are the short phrases of a config read: `7d`, `1%`, `2 of 5`, `newest 20%`?

Each is parsed once into a value with named fields and units, and written back as the user wrote
it, so that a recorded config stays readable.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from modelyard.domain.values import Value

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = r"\d+[smhdw]"


def parse_duration(text: Any) -> timedelta:
    """Read `30s`, `10m`, `1h`, `7d` or `2w`. Raises ValueError for anything else."""
    if isinstance(text, timedelta):
        return text
    if isinstance(text, str) and re.fullmatch(_DURATION, text.strip()):
        number, unit = int(text.strip()[:-1]), text.strip()[-1]
        try:
            return timedelta(seconds=number * _UNITS[unit])
        except OverflowError:
            raise ValueError("is longer than ten thousand years") from None
    raise ValueError("is no duration; write a whole number and s, m, h, d or w, like 10m or 7d")


def format_duration(duration: timedelta) -> str:
    """Write a duration of whole seconds in the largest unit that divides it, up to days."""
    seconds = int(duration.total_seconds())
    unit = next(u for u in "dhms" if seconds % _UNITS[u] == 0)
    return f"{seconds // _UNITS[unit]}{unit}" if seconds else "0s"


def _positive(duration: timedelta) -> timedelta:
    if duration <= timedelta(0):
        raise ValueError("must be longer than nothing, like 1d")
    return duration


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$", "examples": ["7d", "10m"]}),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


_A_DAY = datetime(2024, 1, 1)


def _cron(text: str) -> str:
    try:
        CronSim(text, _A_DAY)
    except CronSimError:
        raise ValueError(
            "is no cron schedule; write minute, hour, day, month and weekday, like '0 3 * * 0'"
        ) from None
    return text


Cron = Annotated[str, AfterValidator(_cron), Field(examples=["0 * * * *"])]


_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = r"\d+ ?(?:B|KiB|MiB|GiB|TiB)"


def _parse_size(value: Any) -> Any:
    if isinstance(value, str):
        if re.fullmatch(_SIZE, value.strip()) is None:
            raise ValueError("is no size; write a whole number and B, KiB, MiB, GiB or TiB: 2GiB")
        unit = value.strip().lstrip("0123456789 ")
        return int(value.strip().removesuffix(unit)) * _SIZES[unit]
    return value


def _format_size(size: int) -> str:
    unit = next(u for u in reversed(_SIZES) if size % _SIZES[u] == 0)
    return f"{size // _SIZES[unit]}{unit}" if size else "0B"


Size = Annotated[
    int,
    BeforeValidator(_parse_size),
    Field(ge=0),
    PlainSerializer(_format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE}$", "examples": ["2GiB", "500MiB"]}),
]
"""Bytes."""


def _parse_window(value: Any) -> Any:
    return value if value == "all" else _positive(parse_duration(value))


def _format_window(value: Any) -> str:
    return value if isinstance(value, str) else format_duration(value)


WindowOrAll = Annotated[
    timedelta | Literal["all"],
    BeforeValidator(_parse_window),
    PlainSerializer(_format_window, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": f"^(all|{_DURATION})$", "examples": ["all", "180d"]}
    ),
]


def _parse_share(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
        if match is None:
            raise ValueError("is no share; write a percentage like 1%, or a fraction like 0.01")
        return float(match[1]) / 100
    return value


Share = Annotated[
    float,
    BeforeValidator(_parse_share),
    Field(ge=0, lt=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%$"},
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            ],
            "examples": ["1%", 0.01],
        }
    ),
]


class Phrase(Value):
    """A value that a user writes as a short phrase; its pattern's groups are its fields."""

    pattern: ClassVar[str]
    example: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str):
            if isinstance(value, dict):
                return value
            raise ValueError(f"must be a phrase like `{cls.example}`")
        match = re.fullmatch(cls.pattern, " ".join(value.split()))
        if match is None:
            raise ValueError(f"cannot be read; write it like `{cls.example}`")
        return {name: part for name, part in match.groupdict().items() if part is not None}

    @model_serializer
    def _write(self) -> str:
        return str(self)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # JSON schema speaks ECMA regular expressions: a group's name is written differently there.
        pattern = re.sub(r"\?P<\w+>", "", cls.pattern)
        return {"type": "string", "pattern": f"^{pattern}$", "examples": [cls.example]}


class Holdout(Phrase):
    """The newest rows, kept to judge with: a share of the rows or a span of event time."""

    pattern = rf"newest (?:(?P<percent>\d+(?:\.\d+)?) ?%|(?P<span>{_DURATION}))"
    example = "newest 20%"

    percent: Annotated[float, Field(gt=0, lt=100)] | None = None
    span: PositiveDuration | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.percent is None) == (self.span is None):
            raise ValueError(f"cannot be read; write it like `{self.example}` or `newest 14d`")
        return self

    @property
    def share(self) -> float | None:
        """Share of the rows, 0..1, where the holdout is given as a percentage."""
        return None if self.percent is None else self.percent / 100

    def __str__(self) -> str:
        amount = f"{self.percent:g}%" if self.span is None else format_duration(self.span)
        return f"newest {amount}"


class RowCount(Phrase):
    """So many rows."""

    pattern = r"(?P<rows>\d+) rows"
    example = "500 rows"

    rows: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        return f"{self.rows} rows"


def _parse_extent(value: Any) -> Any:
    if isinstance(value, RowCount):
        return value
    if isinstance(value, str) and (count := re.fullmatch(r"\s*(\d+) rows\s*", value)):
        if not int(count[1]):
            raise ValueError("has no row; write more, like 500 rows")
        return RowCount(rows=int(count[1]))
    try:
        return _positive(parse_duration(value))
    except ValueError as err:
        raise ValueError(f"{err}, or a number of rows, like 500 rows") from None


def format_extent(extent: timedelta | RowCount) -> str:
    """Write how long a window is, as a config has it."""
    return format_duration(extent) if isinstance(extent, timedelta) else str(extent)


WindowExtent = Annotated[
    timedelta | RowCount,
    BeforeValidator(_parse_extent),
    PlainSerializer(format_extent, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": rf"^({_DURATION}|\d+ rows)$", "examples": ["1d", "500 rows"]}
    ),
]


class FalseAlarms(Phrase):
    """How many alarms are accepted over how many windows in which nothing changed."""

    pattern = r"(?P<count>\d+) per (?P<windows>\d+) windows"
    example = "1 per 1000 windows"

    count: Annotated[int, Field(ge=1)] = 1
    windows: Annotated[int, Field(ge=1)] = 1000

    @model_validator(mode="after")
    def _rare(self) -> Self:
        if self.rate > 0.2:
            raise ValueError("is more than one false alarm in five windows; ask for fewer")
        return self

    @property
    def rate(self) -> float:
        """Probability of a false alarm in one window."""
        return self.count / self.windows

    def __str__(self) -> str:
        return f"{self.count} per {self.windows} windows"


class KOfN(Phrase):
    """At least k of the last n windows, the newest among them."""

    pattern = r"(?P<k>\d+) of (?P<n>\d+)"
    example = "2 of 5"

    k: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=1, le=1000)]

    @model_validator(mode="after")
    def _k_fits(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"asks for {self.k} of only {self.n} windows; swap the numbers")
        return self

    def __str__(self) -> str:
        return f"{self.k} of {self.n}"


class Budget(Phrase):
    """How often something may happen within a period."""

    pattern = rf"(?P<count>\d+) per (?P<period>{_DURATION})"
    example = "3 per 7d"

    count: Annotated[int, Field(ge=1)]
    period: PositiveDuration

    def __str__(self) -> str:
        return f"{self.count} per {format_duration(self.period)}"


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")


class EnvStr(str):
    """Text whose `${VARIABLE}` and `${VARIABLE:-default}` were replaced from the environment.

    It is the expanded text wherever text is wanted. What is shown or stored of it (repr, dumps,
    recorded configs) is `written`, the form with the variables: a secret that is kept out of the
    file stays out of records as well.
    """

    written: str

    @classmethod
    def expand(cls, text: str) -> EnvStr:
        """Replace the variables of `text`. Raises ValueError for one that is not set."""

        def value(match: re.Match[str]) -> str:
            found = os.environ.get(match["name"]) or match["default"]
            if found is None:
                raise ValueError(
                    f"needs the environment variable {match['name']}, which is not set; set it, "
                    f"or write a default: ${{{match['name']}:-...}}"
                )
            return found

        expanded = cls(_VARIABLE.sub(value, text))
        expanded.written = text
        return expanded

    def __repr__(self) -> str:
        return repr(self.written)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda text, inner: text if isinstance(text, cls) else cls.expand(inner(text)),
            core_schema.str_schema(min_length=1),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda text: text.written if isinstance(text, EnvStr) else text
            ),
        )


def _registry(text: EnvStr) -> EnvStr:
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", text) is None:
        raise ValueError(
            "is no registry; write host, host:port or host/path in small letters, without https:// "
            "and without a password: that is for `docker login`"
        )
    return text


RegistryName = Annotated[EnvStr, AfterValidator(_registry)]


ALERT_BLOCK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*")
"""A notification block of Prefect's: its type and its name."""


def _alert_place(text: EnvStr) -> EnvStr:
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None
    if not is_url and ALERT_BLOCK.fullmatch(text) is None:
        raise ValueError(
            "is neither an Apprise URL, like mailto://... or slack://..., nor a notification block "
            "of Prefect's, like slack-webhook/team"
        )
    return text


AlertPlaces = tuple[Annotated[EnvStr, AfterValidator(_alert_place)], ...]
