"""When does something run by itself: cron, every so often, or a calendar's recurrence rule?"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from cronsim import CronSim
from dateutil.rrule import rrulestr
from pydantic import (
    AfterValidator,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from modelyard.config.file import closest
from modelyard.config.section import Section
from modelyard.config.values import Cron, PositiveDuration, format_duration

_SHORTEST = timedelta(seconds=10)
_A_DAY = datetime(2024, 1, 1)


def _zone(name: str) -> str:
    known = zoneinfo.available_timezones()
    if name not in known:
        raise ValueError(f"is no time zone, like Europe/Berlin or UTC.{closest(name, known)}")
    return name


def _rrule(text: str) -> str:
    if "DTSTART" in text.upper():
        raise ValueError("has a DTSTART; leave it out: timezone says where its times are meant")
    try:
        rule = rrulestr(text, dtstart=_A_DAY)
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise ValueError(
            f"is no recurrence rule (RFC 5545): {err}; write one like "
            "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=3;BYMINUTE=0;BYSECOND=0"
        ) from None
    if rule.after(_A_DAY - timedelta(seconds=1), inc=True) is None:
        raise ValueError("never comes true; remove what contradicts itself")
    return text


TimeZone = Annotated[str, AfterValidator(_zone)]
RecurrenceRule = Annotated[str, AfterValidator(_rrule)]


class Schedule(Section):
    """When something runs by itself: one of cron, every and rrule. A text alone is cron in UTC."""

    cron: Cron | None = None
    """Minute, hour, day, month and weekday, like `0 3 * * 0`."""
    every: PositiveDuration | None = None
    """The same time between two starts, counted from a Monday at midnight, like `6h`."""
    rrule: RecurrenceRule | None = None
    """A recurrence rule of RFC 5545 for what cron cannot say, like the last Friday of a month."""
    timezone: TimeZone = "UTC"
    """Time zone that its times are meant in; clock changes are followed."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"cron": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        named = [name for name in ("cron", "every", "rrule") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(
                f"has {' and '.join(named) if named else 'no rule'}; write one of cron, every and "
                "rrule"
            )
        if self.every is not None and self.every < _SHORTEST:
            raise ValueError(f"runs every {format_duration(self.every)}; write 10s or longer")
        return self

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> Any:
        if self.cron is not None and self.timezone == "UTC":
            return self.cron
        return {key: value for key, value in handler(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        described.pop("type", None)
        properties = described.pop("properties", {})
        closed = described.pop("additionalProperties", False)
        described["anyOf"] = [
            {"type": "string", "examples": ["0 * * * *"]},
            {"type": "object", "properties": properties, "additionalProperties": closed},
        ]
        return reference

    def __str__(self) -> str:
        rule = self.cron or self.rrule or f"every {format_duration(self.every or timedelta())}"
        return rule if self.timezone == "UTC" else f"{rule} ({self.timezone})"

    @property
    def anchor(self) -> datetime:
        """Return the moment that `every` counts from: a Monday at midnight in the time zone."""
        return datetime(1970, 1, 5, tzinfo=zoneinfo.ZoneInfo(self.timezone)).astimezone(UTC)

    def falls_within(self, start: datetime, end: datetime) -> bool:
        """Return whether one of its times is after `start` and not after `end`, both in UTC."""
        if self.every is not None:
            return (end - self.anchor) // self.every > (start - self.anchor) // self.every
        zone = zoneinfo.ZoneInfo(self.timezone)
        begin = start.astimezone(zone)
        if self.cron is not None:
            return next(CronSim(self.cron, begin)) <= end
        rule = rrulestr(str(self.rrule), dtstart=_A_DAY)
        following = rule.after(begin.replace(tzinfo=None))
        return following is not None and following.replace(tzinfo=zone) <= end
