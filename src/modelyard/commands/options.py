"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="Name of a config under configs/models/.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
