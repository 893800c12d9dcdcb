"""Run the whole loop on a simulated city bike share, in a project folder of its own.

The folder `demo/` is made anew each time: a copy of this application with one model. What runs at
the end stays up, to be looked at; `--down` ends it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from modelyard.simulations.bikeshare import DEMAND_SHIFT, TRAFFIC_START

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
REPLAY_END = "2024-05-06"

console = Console()


def main() -> int:
    """Run or end the demo. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=("local", "docker"), default="local")
    parser.add_argument("--down", action="store_true", help="end what an earlier demo started")
    options = parser.parse_args()
    if DEMO.exists():
        _modelyard("down")
    if options.down:
        return 0
    _make_project(options.target)
    seconds: dict[str, float] = {}
    for title, words in _steps():
        console.rule(f"[bold]{title}[/]  modelyard {' '.join(words)}")
        began = time.monotonic()
        code = _modelyard(*words)
        seconds[title] = time.monotonic() - began
        if code:
            console.print(f"[red]`modelyard {' '.join(words)}` ended with {code}.[/]")
            return code
    _show_times(seconds)
    return 0


def _steps() -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (
        ("Start the platform", ("up",)),
        (
            "Deliver the first release",
            ("deliver", "bikeshare", "--reason", "first", "--as-of", f"{TRAFFIC_START:%Y-%m-%d}"),
        ),
        ("Replay live traffic", ("replay", "bikeshare", "--to", REPLAY_END)),
        ("Releases", ("releases", "bikeshare")),
        ("Status", ("status",)),
    )


def _make_project(target: str) -> None:
    if DEMO.exists():
        shutil.rmtree(DEMO)
    leave = shutil.ignore_patterns("__pycache__", "examples")
    for folder in ("flows", "tasks", "deployments", "configs"):
        shutil.copytree(ROOT / folder, DEMO / folder, ignore=leave)
    for config in (DEMO / "configs" / "models").glob("*.yaml"):
        if config.stem != "bikeshare":
            config.unlink()
            continue
        text = re.sub(r"(?m)^(  target: )local", rf"\g<1>{target}", config.read_text())
        # The replay's months pass in minutes: a schedule in real time would find years of silence.
        config.write_text(re.sub(r"(?m)^(  schedule: )0 \* \* \* \*", r"\g<1>null", text))


def _modelyard(*words: str) -> int:
    command = [str(Path(sys.executable).parent / "modelyard"), *words]
    return subprocess.run(command, cwd=DEMO).returncode


def _show_times(seconds: dict[str, float]) -> None:
    table = Table("step", "seconds", title="The demo's steps")
    for title, took in seconds.items():
        table.add_row(title, f"{took:.0f}")
    table.add_row("[bold]all[/]", f"[bold]{sum(seconds.values()):.0f}[/]")
    console.print(table)
    console.print(
        f"The simulated demand shifts on {DEMAND_SHIFT:%Y-%m-%d}: the window it falls into is "
        "where the error rises and the alarm is raised.\n"
        f"All of it is still up, in the project folder [bold]{DEMO.name}/[/]; "
        "[bold]make demo-down[/] ends it."
    )


if __name__ == "__main__":
    sys.exit(main())
