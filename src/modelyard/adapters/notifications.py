"""Did the alert reach the people it is for?

What people are to be told is written down in the ledger together with the incident that it is
about. From there it is sent, each place by itself; what a place did not take waits for the next
run.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import NamedTuple

from modelyard.adapters.workspace import Workspace
from modelyard.config.values import ALERT_BLOCK
from modelyard.domain.alerts import KEPT, plan_messages
from modelyard.domain.values import Value
from modelyard.errors import ConflictError, ModelYardError
from modelyard.project import Project

_log = logging.getLogger(__name__)
_one_at_a_time = Lock()
_HOUR = timedelta(hours=1)
_MOST_LETTERS = 190
"""Of a place's name, as the ledger keeps it."""


class AlertDelivery(Value):
    """What became of one alert at one place."""

    place: str
    """Scheme and host, or the block's name: without what is secret."""
    delivered: bool
    problem: str | None = None
    """Why it was not delivered, as far as the service said."""


class Place(NamedTuple):
    """Where alerts go to."""

    name: str
    """As it may be shown, and different from that of any other place."""
    url: str


def alert_places(project: Project, model: str | None = None) -> tuple[Place, ...]:
    """Return where a model's alerts go, the platform's places first; without a model, all places.

    A place that is named twice is one.
    """
    models = project.model_names() if model is None else (model,)
    urls = list(project.platform.alerts)
    urls += [url for name in models for url in project.model(name).alerts]
    places: list[Place] = []
    seen: Counter[str] = Counter()
    for url in dict.fromkeys(map(str, urls)):
        name = _shown(url)[:_MOST_LETTERS]
        seen[name] += 1
        places.append(Place(name if seen[name] == 1 else f"{name} ({seen[name]})", url))
    return tuple(places)


def send_waiting(
    workspace: Workspace, model: str, now: datetime | None = None
) -> tuple[AlertDelivery, ...]:
    """Send what people are to be told of a model and were not; return what became of each message.

    Nothing is raised for a place that fails: it is in the log, and is tried again by whoever calls
    this next. After a failure a place gets nothing more this time. Where another process sends
    just now, this one leaves it to that.
    """
    try:
        with workspace.ledger.lock(model, purpose="alerts"):
            return tuple(_send_waiting(workspace, model, now or datetime.now(UTC)))
    except ConflictError:
        return ()


def _send_waiting(workspace: Workspace, model: str, now: datetime) -> Iterator[AlertDelivery]:
    ledger, places = workspace.ledger, alert_places(workspace.project, model)
    for place in places:
        lately = ledger.messages_since(model, place.name, now - _HOUR)
        for message in plan_messages(model, ledger.waiting_notices(model, place.name), lately):
            sent = send_alert(place, message.title, message.body)
            ledger.note_delivery(message.notices, place.name, now, problem=sent.problem)
            if not sent.delivered:
                _log.warning(
                    "The alert %r did not reach %s: %s", message.title, place.name, sent.problem
                )
            yield sent
            if not sent.delivered:
                break
    names = [place.name for place in places]
    given_up = ledger.close_notices(model, names, now, older_than=now - KEPT)
    if given_up:
        _log.error("%d alerts about %s were given up after %d days", given_up, model, KEPT.days)


def send_alert(place: Place, title: str, body: str) -> AlertDelivery:
    """Send one alert to one place, and tell whether it was delivered.

    Nothing is raised: whoever sends decides whether to try again. Passwords and tokens are in no
    result and no log.
    """
    send = _through_block if _is_block(place.url) else _through_apprise
    problem = send(place.url, title, body)
    return AlertDelivery(place=place.name, delivered=problem is None, problem=problem)


def _through_apprise(url: str, title: str, body: str) -> str | None:
    """Return why a message was not delivered; None where it was."""
    from apprise import Apprise, NotifyFormat

    channel = Apprise()
    with _held_back() as problems:
        if not channel.add(url):
            return "not a URL that Apprise knows"
        if channel.notify(title=title, body=body, body_format=NotifyFormat.MARKDOWN):
            return None
    shown = _shown(url)  # the host is named by what Apprise says of it, and may be
    secret = [part for part in re.split(r"[/@:?&=+]", url) if part not in shown]
    return problems.without(secret) or "the service did not take it"


def _through_block(name: str, title: str, body: str) -> str | None:
    """Return why a block of Prefect's did not deliver a message; None where it did."""
    from modelyard.adapters.prefect.blocks import AlertBlock  # seconds of import, only where needed

    secrets: Collection[str] = ()
    with _held_back() as problems:
        try:
            block = AlertBlock(name)
            secrets = block.secrets()
            block.send(title, body)
        except ModelYardError as err:
            problems.hear(str(err))
        else:
            return None
    parts = [part for text in secrets for part in (text, *re.split(r"[/@:?&=+]", text))]
    return problems.without(parts) or "the service did not take it"


def _is_block(url: str) -> bool:
    return ALERT_BLOCK.fullmatch(url) is not None


def _shown(url: str) -> str:
    """Return a place as it may be shown: with no password, token, path or query."""
    if _is_block(url):
        return url
    from apprise import Apprise

    channel = Apprise()
    with _held_back():
        known = channel.add(url)
    if known:
        # Paths and queries of web hooks are as secret as passwords, and Apprise shows them.
        return "/".join(channel[0].url(privacy=True).partition("?")[0].split("/")[:3])
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://…" if separator and scheme.isalnum() else "…"


class _Problems(logging.Handler):
    """Collects what a library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.hear(record.getMessage())

    def hear(self, message: str) -> None:
        self._messages += [line for line in message.splitlines() if line.strip()]

    def without(self, secret: Sequence[str]) -> str:
        """Return what was said, save the lines that would tell one of these texts."""
        parts = [part for part in secret if len(part) > 3]
        told = dict.fromkeys(m for m in self._messages if not any(p in m for p in parts))
        return "; ".join(told)


@contextmanager
def _held_back() -> Iterator[_Problems]:
    """Keep what Apprise and the libraries below it log from everybody else: it has the secrets.

    One at a time, since loggers and warnings are the process's. Apprise's plugins import a module
    that Python 3.13 drops, and warn of it.
    """
    problems = _Problems()
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3", "httpx", "httpcore")]
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        propagated = [logger.propagate for logger in loggers]
        for logger in loggers:
            logger.propagate = False
            logger.addHandler(problems)
        try:
            yield problems
        finally:
            for logger, propagates in zip(loggers, propagated, strict=True):
                logger.removeHandler(problems)
                logger.propagate = propagates
