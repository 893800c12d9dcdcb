"""May this flow run change the model's releases now?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from modelyard.adapters.prefect.steps import announced
from modelyard.adapters.workspace import Workspace
from modelyard.errors import ConflictError

WAIT_SECONDS = 3600.0
"""For the delivery before this one: longer than most take, and a stuck one blocks not for ever."""


@contextmanager
def hold_model(model: str, *, wait: bool = True, purpose: str = "model") -> Iterator[None]:
    """Hold the right to change a model's releases, once who holds it now has ended.

    Another `purpose` is another right, which does not wait for this one.

    Raises ConflictError where it is held by another, at once or after an hour of waiting.
    """
    ledger = Workspace.find().ledger
    with ExitStack() as held:
        try:
            held.enter_context(ledger.lock(model, purpose=purpose))
        except ConflictError:
            if not wait:
                raise
            with announced(f"Wait for the other delivery of {model}"):
                held.enter_context(ledger.lock(model, wait_seconds=WAIT_SECONDS, purpose=purpose))
        yield
