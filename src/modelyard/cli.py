"""What does the `modelyard` command do?"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console

from modelyard.commands import (
    backtesting,
    configs,
    delivery,
    history,
    incidents,
    platform,
    reproducing,
    rollouts,
    traffic,
)
from modelyard.commands.refusals import explain_refusal
from modelyard.errors import ModelYardError

app = typer.Typer(
    name="modelyard",
    help="Continuous delivery for machine-learning models: train, gate, release, serve, monitor.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for group in (
    configs,
    platform,
    delivery,
    rollouts,
    history,
    incidents,
    reproducing,
    traffic,
    backtesting,
):
    group.register(app)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"modelyard {metadata.version('modelyard')}")
        raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Take what is asked of the command itself."""


def main() -> None:
    """Run the command; what went wrong is said in one message, without a stack trace.

    Exit codes: 0 done, 1 failed, 2 bad input or config, 3 a gate or a rule said no.
    """
    try:
        app()
    except ModelYardError as err:
        _say(str(err))
        sys.exit(err.exit_code)
    except Exception as err:
        refusal = explain_refusal(err)
        if refusal is None:
            raise
        _say(refusal)
        sys.exit(1)


def _say(message: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("Error:", style="bold red", end=" ")
    console.print(message, markup=False)
