"""How is a notification block of Prefect's found by its name, and used?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.exceptions import PrefectHTTPStatusError

from modelyard.errors import InvalidInputError, ServiceUnavailableError


class NotificationFailedError(ServiceUnavailableError):
    """A block's service did not take a message."""


class AlertBlock:
    """A notification block as Prefect's server stores it."""

    def __init__(self, slug: str) -> None:
        """Load a block by `type/name`, like slack-webhook/team.

        Raises InvalidInputError where there is no such block or it sends no notifications,
        ServiceUnavailableError where Prefect does not answer.
        """
        try:
            block = Block.load(slug, _sync=True)  # pyright: ignore[reportCallIssue] of its decorator
        except ValueError as err:  # Prefect's own words name the block and nothing of its fields
            raise InvalidInputError(
                "Prefect has no such block; make one on the Blocks page of its UI"
            ) from err
        except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as err:
            raise ServiceUnavailableError(
                "Prefect's server, which keeps it, does not answer"
            ) from err
        if not isinstance(block, NotificationBlock):
            raise InvalidInputError("the block is none that sends notifications")
        self._block = block

    def secrets(self) -> set[str]:
        """Return every text that the block holds: no message about it may repeat one."""
        held = self._block.model_dump(mode="json", context={"include_secrets": True})
        return set(_texts(json.loads(json.dumps(held, default=str))))

    def send(self, title: str, body: str) -> None:
        """Send a message. Raises NotificationFailedError with what the service said."""
        try:
            with self._block.raise_on_failure():
                self._block.notify(body, title, _sync=True)  # pyright: ignore[reportCallIssue]
        except NotificationError as err:
            raise NotificationFailedError(err.log or "the service did not take it") from err
        except httpx.HTTPStatusError as err:  # its own words have the URL
            raise NotificationFailedError(f"answered {err.response.status_code}") from err
        except (httpx.HTTPError, ValueError, OSError) as err:
            raise NotificationFailedError(type(err).__name__) from err


def _texts(held: Any) -> Iterator[str]:
    if isinstance(held, dict):
        for value in held.values():
            yield from _texts(value)
    elif isinstance(held, list):
        for value in held:
            yield from _texts(value)
    elif isinstance(held, str):
        yield held
