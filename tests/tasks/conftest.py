"""What tests of tasks share: a project of their own, untouched or with a built release."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.adapters.workspace import Workspace
from modelyard.project import Project
from tests.projects import copy_project, load_mlflow, make_project, working_in


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which nothing happened yet; MLflow's database is made, which takes seconds."""
    load_mlflow()
    project = make_project(tmp_path_factory.mktemp("blank"))
    workspace = Workspace(project)
    workspace.tracking.client.search_experiments()
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture
def workspace(
    blank: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The parts of a fresh project, which the tasks find."""
    with working_in(copy_project(blank, tmp_path), monkeypatch) as found:
        yield found
