"""Does every module say which question it answers, and is none too long?"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("src", "flows", "tasks", "deployments")
FILES = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
MOST_LINES = 400
ANSWERING = ("tasks", "src/modelyard/domain", "src/modelyard/ledger", "src/modelyard/adapters")
"""Where every module answers a question; a flow says its steps, a command what it is about."""


def test_no_module_is_too_long() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert len(lines) > 100
    assert {path: n for path, n in lines.items() if n > MOST_LINES} == {}


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    silent, unasked = [], []
    for path in FILES:
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        first = said.partition("\n")[0]
        if path.read_text() and not first.endswith((".", "?")):
            silent.append(path)
        folder = path.parent.relative_to(ROOT).as_posix()
        if folder in ANSWERING and path.name != "__init__.py" and "?" not in first:
            unasked.append(path)
    assert silent == []
    assert unasked == []
