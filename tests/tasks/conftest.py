"""What tests of tasks share: small projects, in which nothing happened yet or a release serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.adapters.replay import Replay
from modelyard.adapters.workspace import Workspace
from modelyard.project import Project
from tests.projects import (
    MODEL,
    SECOND,
    build,
    copy_project,
    load_mlflow,
    make_project,
    release,
    working_in,
)


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which nothing happened yet; MLflow's database is made, which takes seconds."""
    load_mlflow()
    project = make_project(tmp_path_factory.mktemp("blank"))
    Workspace(project).tracking.client.search_experiments()
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture(scope="session")
def served(blank: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose release 1.0.0 is champion and answered two weeks of rides; no label came.

    Its service is gone, and its log stays.
    """
    project = copy_project(blank, tmp_path_factory.mktemp("served"))
    with pytest.MonkeyPatch.context() as patch, working_in(project, patch) as workspace:
        service = release(build())
        champion = workspace.ledger.champion(MODEL)
        assert champion is not None
        replay = Replay(workspace, project.model(MODEL), champion, service.url, end=SECOND)
        for window in replay.windows:
            replay.send(window)
        assert replay.traffic.failed == 0
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture
def workspace(
    blank: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The parts of a fresh project, which the tasks find."""
    with working_in(copy_project(blank, tmp_path), monkeypatch) as found:
        yield found


@pytest.fixture
def monitored(
    served: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The parts of a project with a champion and two weeks of logged traffic."""
    with working_in(copy_project(served, tmp_path), monkeypatch) as found:
        yield found
