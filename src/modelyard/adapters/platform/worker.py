"""Keep a Prefect worker running: without one, schedules and events are all in vain.

A Prefect worker gives up where its server fails it for a while. Nobody looks at a process that runs
in the background, so it is started anew, and Prefect told which of its flow runs ended with it.
"""

from __future__ import annotations

import subprocess
import sys
import time

from modelyard.adapters.platform.parts import settle_flow_runs
from modelyard.errors import ServiceUnavailableError
from modelyard.project import Project

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
"""Between two starts of a worker that ends again and again."""


def keep_worker(project: Project, command: list[str]) -> None:
    """Run a worker; start it again whenever it ends other than by its own will."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        began = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        if code == 0:
            return
        if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        print(f"The worker ended with {code}; it is started again in {pause:.0f} s.", flush=True)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        try:
            settle_flow_runs(project)
        except ServiceUnavailableError as err:
            print(f"Its flow runs are settled at the next start: {err}", flush=True)


if __name__ == "__main__":
    # the arguments are those of Prefect's command
    keep_worker(Project.find(), [sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]])
