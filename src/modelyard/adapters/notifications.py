"""Did the alert reach the people it is for?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Lock

from modelyard.domain.values import Value

_one_at_a_time = Lock()


class AlertDelivery(Value):
    """What became of one alert at one place."""

    place: str
    """The URL without what is secret in it."""
    delivered: bool
    problem: str | None = None
    """Why it was not delivered, as far as the service said."""


def send_alert(urls: Sequence[str], title: str, body: str) -> tuple[AlertDelivery, ...]:
    """Send one alert to every Apprise URL, and tell for each whether it was delivered.

    A place that fails does not keep the alert from the others, and nothing is raised: whoever
    sends decides whether to try again. Passwords and tokens are in no result and no log.
    """
    # Apprise's own log holds URLs with their secrets at some levels.
    with _one_at_a_time:
        return tuple(_send_one(url, title, body) for url in urls)


def _send_one(url: str, title: str, body: str) -> AlertDelivery:
    from apprise import Apprise, NotifyFormat

    channel = Apprise()
    problems = _Problems()
    with problems:
        if not channel.add(url):
            return AlertDelivery(
                place=_scheme(url), delivered=False, problem="not a URL that Apprise knows"
            )
        place = channel[0].url(privacy=True).partition("?")[0]
        delivered = channel.notify(title=title, body=body, body_format=NotifyFormat.MARKDOWN)
    said = None if delivered else problems.without(url) or "the service did not take it"
    return AlertDelivery(place=place, delivered=bool(delivered), problem=said)


def _scheme(url: str) -> str:
    """Return all of a broken URL that is surely no secret."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://…" if separator and scheme.isalnum() else "…"


class _Problems(logging.Handler):
    """Collects what Apprise warns of, and keeps it from other logs meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []
        self._logger = logging.getLogger("apprise")

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def __enter__(self) -> None:
        self._propagated = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated

    def without(self, url: str) -> str:
        """Return the messages, each cut where it would tell a part of the URL."""
        secrets = {part for part in url.replace("@", "/").replace(":", "/").split("/") if part}
        said = [m for m in self._messages if not any(s in m for s in secrets if len(s) > 3)]
        return "; ".join(said)
