"""Where are the pages of Prefect's server, and what is heard when it fails under a flow?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

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


def artifact_url(key: str) -> str | None:
    """Return the address of the newest page of a key; None where no server runs."""
    return _page(f"artifacts/key/{key}")


def flow_run_url() -> str | None:
    """Return the address of the page of the flow run that asks; None outside of one."""
    return _page(f"runs/flow-run/{flow_run.id}") if flow_run.id else None


def _page(path: str) -> str | None:
    ui = PREFECT_UI_URL.value()
    return f"{ui}/{path}" if PREFECT_API_URL.value() and ui else None
