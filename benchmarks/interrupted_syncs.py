"""How is a change of a service killed in the middle, at a chosen step?"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from modelyard.adapters.docker.target import DockerTarget


def start_elsewhere(
    settings: Mapping[str, Any],
    method: Literal["sync", "set_weights"],
    arguments: Sequence[Any],
    killed_before: Sequence[str] = (),
) -> BaseProcess:
    """Start a change in a process of its own, which kills itself before a certain effect.

    `settings` are those of a DockerTarget. An effect is the first line of a request to the engine,
    or `write` and the name of a file. Those that are named by a pattern have to come in this order;
    before the last one the process dies.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_change, args=(dict(settings), method, arguments, killed_before)
    )
    process.start()
    return process


def _change(
    settings: dict[str, Any], method: str, arguments: Sequence[Any], killed_before: Sequence[str]
) -> None:
    """Change the service, in the process that this is."""
    awaited = list(killed_before)

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if event == "http.client.send" and isinstance(args[1], bytes):
            effect = args[1].partition(b"\r\n")[0].decode(errors="replace")
        elif event == "os.rename":
            effect = f"write {Path(args[1]).name}"
        else:
            return
        if awaited and re.match(awaited[0], effect):
            del awaited[0]
            if not awaited:
                os.kill(os.getpid(), signal.SIGKILL)

    target = DockerTarget(**settings)
    if killed_before:
        sys.addaudithook(hear)
    getattr(target, method)(*arguments)
