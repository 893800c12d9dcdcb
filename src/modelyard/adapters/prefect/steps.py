"""How is one step of the loop run by Prefect, and who sees that it runs?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, Task, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, get_run_context
from prefect.exceptions import MissingContextError

from modelyard.errors import TransientError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class StepNews:
    """What just happened to a step."""

    flow_run_id: str
    step: str
    state: str
    """running, completed or failed."""
    number: int
    """How many steps of the flow run have ended."""
    total: int
    """How many the flow names; a loop may run more."""


listeners: list[Callable[[StepNews], None]] = []
"""Called on every news in this process: the terminal's progress display subscribes here."""

_RETRY_DELAYS: list[float] = [1, 5, 15]
_ended: dict[str, int] = {}
_artifacts: dict[str, Any] = {}


def step(
    title: str, *, retries: int = 3, timeout_seconds: float = 3600
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a Prefect task of one step of the loop.

    Only the transient family of errors is tried again. Nothing is cached by Prefect: the ledger
    knows what was done, and a step that is run again returns what it did.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        return task(
            name=title,
            retries=retries,
            retry_delay_seconds=_RETRY_DELAYS[:retries],
            retry_condition_fn=_is_transient,
            timeout_seconds=timeout_seconds,
            cache_policy=NO_CACHE,
            persist_result=False,
            on_running=[_on_running],
            on_completion=[_on_completion],
            on_failure=[_on_failure],
        )(function)

    return decorate


def _is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except TransientError:
        return True
    except BaseException:  # whatever else the step raised is final
        return False
    return False


def _on_running(ran: Task[Any, Any], run: TaskRun, _state: State[Any]) -> None:
    _tell(ran, run, "running")


def _on_completion(ran: Task[Any, Any], run: TaskRun, _state: State[Any]) -> None:
    _tell(ran, run, "completed")


def _on_failure(ran: Task[Any, Any], run: TaskRun, _state: State[Any]) -> None:
    _tell(ran, run, "failed")


def _tell(ran: Task[Any, Any], run: TaskRun, state: str) -> None:
    flow_run_id = str(run.flow_run_id)
    if state != "running":
        _ended[flow_run_id] = _ended.get(flow_run_id, 0) + 1
    total = _named_steps(FlowRunContext.get())
    news = StepNews(flow_run_id, ran.name, state, _ended.get(flow_run_id, 0), total)
    _hear(news)
    _show_progress(news)


@contextmanager
def announced(title: str) -> Iterator[None]:
    """Tell the listeners of something that takes time and is no task."""
    context = FlowRunContext.get()
    flow_run_id = str(context.flow_run.id) if context and context.flow_run else ""
    state = "failed"
    _hear(StepNews(flow_run_id, title, "running", 0, 0))
    try:
        yield
        state = "completed"
    finally:
        _hear(StepNews(flow_run_id, title, state, 0, 0))


def _hear(news: StepNews) -> None:
    for listener in listeners:
        listener(news)


def _named_steps(context: FlowRunContext | None) -> int:
    flow: Flow[Any, Any] | None = context.flow if context else None
    if flow is None:
        return 0
    code = flow.fn.__code__
    return sum(isinstance(flow.fn.__globals__.get(name), Task) for name in code.co_names)


def _show_progress(news: StepNews) -> None:
    if not news.total:
        return
    percent = min(100.0, 100.0 * news.number / news.total)
    words = f"{news.step}: {news.state}"
    try:
        if news.flow_run_id in _artifacts:
            update_progress_artifact(_artifacts[news.flow_run_id], percent, words)
        else:
            _artifacts[news.flow_run_id] = create_progress_artifact(percent, description=words)
    except MissingContextError:  # a task called on its own has no page to show progress on
        return


def publish_page(key: str, markdown: str, description: str) -> None:
    """Leave a page in the Prefect UI; every version of a key is kept.

    A task that is called on its own, outside of any run, leaves none.
    """
    try:
        get_run_context()
    except MissingContextError:
        return
    create_markdown_artifact(markdown, key=key, description=description)
