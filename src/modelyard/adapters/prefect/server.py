"""What does a flow's caller hear when Prefect's server fails under it?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx
from prefect.exceptions import PrefectHTTPStatusError

from modelyard.errors import ServiceUnavailableError

P = ParamSpec("P")
R = TypeVar("R")


def explain_failures(flow: Callable[P, R]) -> Callable[P, R]:
    """Return the flow; ServiceUnavailableError instead of what Prefect's client raises."""

    @functools.wraps(flow)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return flow(*args, **kwargs)
        except (httpx.TransportError, PrefectHTTPStatusError) as err:
            raise ServiceUnavailableError(
                f"Prefect's server failed while the flow ran: {str(err).splitlines()[0]}. What was "
                "recorded stays as it is. `modelyard status` and `modelyard doctor` tell what is "
                "wrong; then run the same command again."
            ) from err

    return run
