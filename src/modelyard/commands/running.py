"""How does a command run a flow of the application, here and now, and show what it does?"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from modelyard.errors import ConfigError
from modelyard.project import Project

_APPLICATION = ("flows", "tasks", "deployments")
_NO_TERMINAL_WIDTH = 120
console = Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH)


def load_flow(module: str, name: str, model: str, *, verbose: bool = False) -> Callable[..., Any]:
    """Import one flow of the project around the working directory, set up to run in this process.

    The application's folders (`flows/`, `tasks/`) belong to the project and not to the installed
    package; Prefect reads its settings when it is imported, so they are set first.
    """
    project = Project.find()
    project.model(model)  # a wrong name or config is said at once
    use_platform(project)
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))
    with console.status("Loading Prefect …"):
        from modelyard.adapters.prefect.server import explain_failures

        try:
            return explain_failures(getattr(importlib.import_module(module), name))
        except ModuleNotFoundError as err:
            if err.name not in _APPLICATION:
                raise
            raise ConfigError(
                f"{project.root} has no folder {err.name}/. A project holds configs, "
                f"{', '.join(_APPLICATION)}: run from a checkout of ModelYard, or copy these "
                "folders into this project."
            ) from err


def use_platform(project: Project) -> None:
    """Set this process up to work for a project, before Prefect reads its settings."""
    from modelyard.adapters.platform.parts import platform_id, prefect_environment
    from modelyard.adapters.platform.processes import MARK_VARIABLE, end_lost_servers

    # What this process starts and, if killed, leaves behind is ended by the next command or `down`.
    end_lost_servers(platform_id(project))
    os.environ[MARK_VARIABLE] = platform_id(project)
    for variable, value in prefect_environment(project).items():
        if value:
            os.environ[variable] = value
        else:  # Prefect takes an empty address for one, and loses every event on its way there
            os.environ.pop(variable, None)


class Steps:
    """A live table of a flow's steps: what runs, what is done, and the seconds that it took."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, float, float | None]] = []
        self._spinner = Spinner("dots", style="cyan")
        self._lock = threading.Lock()

    def hear(self, news: Any) -> None:
        """Take one piece of news from `modelyard.adapters.prefect.steps`."""
        now = time.monotonic()
        with self._lock:
            if news.state == "running":
                # a loop of one or two steps: one line for all of its rounds
                self._rows[-2:] = [row for row in self._rows[-2:] if row[0] != news.step]
                self._rows.append((news.step, "running", now, None))
                return
            for place in range(len(self._rows) - 1, -1, -1):
                step, state, started, _ = self._rows[place]
                if step == news.step and state == "running":
                    self._rows[place] = (step, news.state, started, now)
                    return

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = Table.grid(padding=(0, 1))
        now = time.monotonic()
        with self._lock:
            rows = list(self._rows)
        for step, state, started, ended in rows:
            mark: Any = {"completed": Text("✓", "green"), "failed": Text("✗", "red")}.get(
                state, self._spinner
            )
            seconds = Text(f"{(ended or now) - started:6.1f} s", "dim")
            grid.add_row(mark, Text(step), seconds)
        yield grid


@contextmanager
def shown_steps() -> Iterator[None]:
    """Show the steps of the flows that run inside the block."""
    from modelyard.adapters.prefect.steps import listeners

    steps = Steps()
    listeners.append(steps.hear)
    try:
        with Live(steps, console=console, refresh_per_second=8, transient=not console.is_terminal):
            yield
    finally:
        listeners.remove(steps.hear)
