"""Did the alert reach the people it is for?"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from threading import Lock

from modelyard.domain.values import Value
from modelyard.project import Project

_log = logging.getLogger(__name__)
_one_at_a_time = Lock()


class AlertDelivery(Value):
    """What became of one alert at one place."""

    place: str
    """Scheme and host, without what is secret."""
    delivered: bool
    problem: str | None = None
    """Why it was not delivered, as far as the service said."""


def tell_people(project: Project, model: str, title: str, body: str) -> None:
    """Send an alert to all who want to hear of a model; a place that fails is in the log."""
    urls = (*project.platform.alerts, *project.model(model).alerts)
    for sent in send_alert(urls, title, body):
        if not sent.delivered:  # the incident stays open, where everybody can see it
            _log.warning("The alert %r did not reach %s: %s", title, sent.place, sent.problem)


def send_alert(urls: Sequence[str], title: str, body: str) -> tuple[AlertDelivery, ...]:
    """Send one alert to every Apprise URL, and tell for each whether it was delivered.

    A place that fails does not keep the alert from the others, and nothing is raised: whoever
    sends decides whether to try again. Passwords and tokens are in no result and no log.
    """
    # One at a time, since the log and the warnings of Apprise are held back meanwhile: the log has
    # URLs with their secrets, and its plugins import a module that Python 3.13 drops.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
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
        # Paths and queries of web hooks are as secret as passwords, and Apprise shows them.
        place = "/".join(channel[0].url(privacy=True).partition("?")[0].split("/")[:3])
        delivered = channel.notify(title=title, body=body, body_format=NotifyFormat.MARKDOWN)
    said = None if delivered else problems.without(url) or "the service did not take it"
    return AlertDelivery(place=place, delivered=bool(delivered), problem=said)


def _scheme(url: str) -> str:
    """Return all of a broken URL that is surely no secret."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://…" if separator and scheme.isalnum() else "…"


class _Problems(logging.Handler):
    """Collects what Apprise warns of, and keeps its log and that of its requests from others."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []
        self._loggers = [logging.getLogger(name) for name in ("apprise", "urllib3")]

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def __enter__(self) -> None:
        self._propagated = [logger.propagate for logger in self._loggers]
        for logger in self._loggers:
            logger.propagate = False
            logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        for logger, propagated in zip(self._loggers, self._propagated, strict=True):
            logger.removeHandler(self)
            logger.propagate = propagated

    def without(self, url: str) -> str:
        """Return the messages, save those that would tell a part of the URL."""
        parts = [part for part in re.split(r"[/@:?&=+]", url) if len(part) > 3]
        return "; ".join(m for m in self._messages if not any(part in m for part in parts))
