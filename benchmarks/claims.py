"""How does every benchmark take its options, and say what holds?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Claim:
    """A measured figure, and what it must be."""

    name: str
    value: float
    limit: str
    holds: bool


def claim(name: str, value: float, relation: Literal["<=", ">="], limit: float) -> Claim:
    """Return whether a figure keeps its limit; NaN keeps none."""
    holds = value <= limit if relation == "<=" else value >= limit
    return Claim(name, value, f"{relation} {limit:.4g}", bool(holds))


def data_folder(name: str) -> Path:
    """Return the folder of a data set below $MODELYARD_DATA. Raises SystemExit where it is not."""
    folder = Path(os.environ.get("MODELYARD_DATA", "data")) / name
    if not folder.is_dir():
        sys.exit(f"There is no data set {folder}: set MODELYARD_DATA to the folder that holds it.")
    return folder


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one table of a benchmark."""
    table = Table(*head, title=title)
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    console.print(table)


Measure = Callable[[bool], Sequence[Claim]]
"""Takes whether the run is a quick one."""


def main(
    description: str, measure: Measure | Mapping[str, Measure], *, long: Collection[str] = ()
) -> None:
    """Run a benchmark from the command line: `--quick`, `--json FILE`; exit 0 if all holds.

    Of several parts, by name, it runs all or those that are named; a quick run leaves out those
    that are `long` however little is measured.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small run that takes a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the claims there")
    parts = measure if isinstance(measure, Mapping) else {"all": measure}
    if isinstance(measure, Mapping):
        parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}")
    options = parser.parse_args()
    usual = [name for name in parts if not (options.quick and name in long)]
    named = getattr(options, "parts", None) or usual
    if unknown := [name for name in named if name not in parts]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(parts)}")
    claims = [claim for name in named for claim in parts[name](options.quick)]
    show(
        "Claims",
        ("", "claim", "measured", "limit"),
        [("✓" if c.holds else "✗", c.name, c.value, c.limit) for c in claims],
    )
    if options.json:
        text = json.dumps({"claims": [asdict(c) for c in claims]}, indent=2)
        options.json.write_text(text + "\n")
    sys.exit(0 if all(c.holds for c in claims) else 1)
