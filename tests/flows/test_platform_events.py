"""An event that Prefect does not take is an error, and not lost without a word."""

from __future__ import annotations

import socket
import uuid

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from modelyard.adapters.prefect.events import emit_event
from modelyard.errors import TransientError


def test_an_event_for_a_server_that_is_away_raises_what_tasks_retry() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(TransientError, match=r"modelyard\.drift\.detected about alpha"),
        ):
            emit_event("modelyard.drift.detected", "alpha", {}, str(uuid.uuid4()))
