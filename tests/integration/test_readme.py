"""Every command of the README and the quickstart works, in its order, as it stands there.

A `console` block is one shell script in a project of its own. Its lines are run as they are, but
for two: `make` needs the checkout, so its words are looked up in the Makefile, and a line that ends
in `# ends with N` must do so. A `diff` block is an edit of the file that it names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from docker import DockerClient
from typer.main import get_command

from modelyard.adapters.platform.parts import platform_id
from modelyard.adapters.platform.processes import marked_processes
from modelyard.cli import app
from modelyard.ledger import Ledger
from modelyard.project import Project
from tests.integration.platform_project import CHECKOUT, free_port

ENVIRONMENT = Path(sys.executable).parents[1]
README = CHECKOUT / "README.md"
QUICKSTART = CHECKOUT / "docs" / "quickstart.md"
ON_DOCKER, ON_REAL_DATA = "On Docker", "Real data sets"
DOCUMENTS = (
    README,
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "CHANGELOG.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
)
APPLICATION = ("flows", "tasks", "deployments", "configs")
WRITTEN_BY_INIT = "configs/models/rides.yaml"


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    heading: str
    language: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    heading, language, lines = "", None, []
    for line in document.read_text().splitlines():
        fence = re.fullmatch(r"```(\w*)", line)
        if language is None and fence:
            language, lines = fence[1], []
        elif language is not None and fence:
            yield Block(heading, language, "\n".join(lines))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    assert language is None, f"{document} ends inside a block"


class Shell:
    """A project as a reader has it: the application, no model yet, the environment in .venv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        leave = shutil.ignore_patterns("__pycache__", "bikeshare.yaml")
        for name in APPLICATION:
            shutil.copytree(CHECKOUT / name, folder / name, ignore=leave)
        (folder / ".venv").symlink_to(ENVIRONMENT)
        platform = folder / "configs" / "platform.yaml"
        text = platform.read_text()
        for port in ("4200", "5000"):
            assert text.count(port) == 1
            text = text.replace(port, str(free_port()))
        platform.write_text(text)

    def do(self, block: Block) -> str:
        """Run a console block, or make the edit of a diff block; return what was printed."""
        if block.language == "diff":
            self._edit(block.text)
            return ""
        return self._run(block.text) if block.language == "console" else ""

    def _run(self, script: str) -> str:
        lines = [_as_expected(line) for line in script.splitlines() if not _is_make(line)]
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
        )
        print(f"$ {script}\n{done.stdout}({time.monotonic() - began:.1f} s)\n")
        assert done.returncode == 0, f"ended with {done.returncode}: {script}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        hidden = {"MODELYARD_ROOT", "PREFECT_API_URL", "PREFECT_HOME", "VIRTUAL_ENV"}
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        return kept | {"PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}"}

    def _edit(self, diff: str) -> None:
        """Replace lines of a config: each `-` line by the `+` line that follows it."""
        named, *changes = diff.splitlines()
        file = self.folder / named.removeprefix("--- ")
        lines = file.read_text().splitlines()
        for removed, added in zip(changes[::2], changes[1::2], strict=True):
            assert (removed[0], added[0]) == ("-", "+"), diff
            (place,) = [n for n, line in enumerate(lines) if line.startswith(removed[1:])]
            lines[place] = added[1:]
        file.write_text("\n".join(lines) + "\n")

    def down(self) -> None:
        """End what a failed test left running."""
        command = [ENVIRONMENT / "bin" / "modelyard", "down"]
        subprocess.run(command, cwd=self.folder, capture_output=True, timeout=200)

    def leftovers(self) -> list[int]:
        """Return the processes of this project that are still there."""
        mine = {process.pid for process in marked_processes(platform_id(Project(self.folder)))}
        named = psutil.process_iter(["pid", "cmdline"])
        folder = str(self.folder)
        services = {p.pid for p in named if any(folder in word for word in p.info["cmdline"] or ())}
        return sorted(mine | services)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "project")
    try:
        yield shell
    finally:
        shell.down()


def _as_expected(line: str) -> str:
    """Return a line that fails unless the command ends with the code that its comment says."""
    command, comment, code = line.partition("# ends with ")
    if not comment:
        return line
    return f"code=0; {command.rstrip()} || code=$?; test $code -eq {int(code)}"


def _is_make(line: str) -> bool:
    return line.startswith("make ")


def _rides(start: str, days: int, level: float) -> pd.DataFrame:
    """Return hourly rides: a reader's own file."""
    hours = pd.date_range(start, periods=24 * days, freq="h")
    rng = np.random.default_rng(len(hours))
    temperature = rng.normal(18, 6, len(hours)).round(1)
    weather = rng.choice(["clear", "rain"], len(hours), p=[0.7, 0.3])
    usual = 50 + 3 * temperature + 40 * (hours.hour.to_numpy() > 6) - 20 * (weather == "rain")
    return pd.DataFrame(
        {
            "hour": hours.strftime("%Y-%m-%d %H:%M"),
            "hour_of_day": hours.hour,
            "temperature": temperature,
            "weather": weather,
            "count": (level * usual + rng.normal(0, 5, len(hours))).clip(0).round().astype(int),
        }
    )


@pytest.mark.xdist_group("readme")
def test_every_command_of_the_readme_works_in_its_order(shell: Shell) -> None:
    file = shell.folder / "rides.csv"
    seven_weeks = _rides("2024-01-01", days=49, level=1)
    seven_weeks.to_csv(file, index=False)

    def twice_as_many_riders_come() -> None:
        pd.concat([seven_weeks, _rides("2024-02-19", days=28, level=2)]).to_csv(file, index=False)

    # What happens in the world before a block: new rows, before they are delivered.
    before: dict[str, Callable[[], None]] = {'--reason "new rows"': twice_as_many_riders_come}
    printed = ""
    for block in blocks(README):
        for words, happen in before.items():
            if words in block.text:
                happen()
        printed += shell.do(block)
    assert "rides 1.0.1 serves at" in printed
    assert "0 failed" in printed
    assert {"predictions.csv"} <= {path.name for path in shell.folder.iterdir()}
    assert not shell.leftovers()
    _check_that_every_label_was_joined(Project(shell.folder), "rides")


@pytest.mark.xdist_group("quickstart")
def test_every_command_of_the_quickstart_works_in_its_order(shell: Shell) -> None:
    printed = "".join(
        shell.do(block)
        for block in blocks(QUICKSTART)
        if block.heading not in (ON_DOCKER, ON_REAL_DATA)
    )
    for words in ("Gate: promote", "→ 1.0.1", "0 failed", "degraded", "labels of rides loaded"):
        assert words in printed
    assert not shell.leftovers()


@pytest.mark.xdist_group("docker")
def test_every_command_of_the_quickstart_works_on_docker(
    shell: Shell, docker_engine: DockerClient
) -> None:
    (shell.folder / "rides.csv").write_bytes(_simulated_rides())
    mine = {"label": "modelyard.model=rides_docker"}
    try:
        printed = "".join(shell.do(b) for b in blocks(QUICKSTART) if b.heading == ON_DOCKER)
        assert "rides_docker 1.0.0 serves at" in printed
        assert not docker_engine.containers.list(all=True, filters=mine)
    finally:
        shell.down()
        for image in docker_engine.images.list(filters=mine):
            for name in image.tags:
                docker_engine.images.remove(name)


def test_every_command_of_the_quickstart_works_on_real_data(
    shell: Shell, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_DATA", str(data_folder))
    printed = "".join(shell.do(b) for b in blocks(QUICKSTART) if b.heading == ON_REAL_DATA)
    assert "bike_sharing: 17,379 rows" in printed


def test_every_make_word_of_the_documents_is_in_the_makefile() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (CHECKOUT / "Makefile").read_text()))
    named = {
        word
        for document in DOCUMENTS
        for block in blocks(document)
        for word in re.findall(r"(?m)^(?:\w+=\w+ )?make ([a-z-]+)", block.text)
    }
    assert {"demo", "test", "install"} <= named <= targets


def test_the_demo_takes_the_steps_that_the_readme_says() -> None:
    taken = subprocess.run(
        [sys.executable, "-c", "from scripts.demo import _steps; print(_steps())"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = re.findall(r"\('(up|deliver|replay|releases|status)'", taken.stdout)
    assert commands == ["up", "deliver", "replay", "releases", "status"]
    told = README.read_text().partition("## Two commands")[2].partition("\n## ")[0]
    places = [told.index(words) for words in ("worker start", "release 1.0.0", "replayed", "plot")]
    assert places == sorted(places)


def test_the_readme_names_exactly_the_commands_that_there_are() -> None:
    table = README.read_text().partition("| command | does |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\|([^|]*)\|", table)))
    assert sorted(named) == sorted(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_what_a_document_links_to_and_names_is_there(document: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", document.read_text())
    links = [link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    for target, _, section in links:
        if "://" in target:
            continue
        found = document.parent / target if target else document
        assert found.exists(), f"{document} links to {target}"
        assert not section or section in _anchors(found), f"{target} has no #{section}"
    folders = r"(?:configs|deployments|docs|flows|scripts|src|tasks|tests)/[\w./-]*\w"
    for name in re.findall(rf"`({folders})`", text):
        there = name == WRITTEN_BY_INIT or (CHECKOUT / name).exists()
        assert there, f"{document} names {name}"


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", document.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _simulated_rides() -> bytes:
    from modelyard.simulations.bikeshare import simulate

    rows = simulate().rename(columns={"timestamp": "hour_start", "cnt": "count"})
    return rows.to_csv(index=False).encode()


def _check_that_every_label_was_joined(project: Project, model: str) -> None:
    windows = Ledger.open(project.ledger_url).windows(model)
    assert windows
    for window in windows:
        labelled = window.record["performance"]["labels"]
        answered = window.record["performance"]["rows"]
        assert labelled == answered, f"{labelled} of {answered} rows of {window.start} have a label"
