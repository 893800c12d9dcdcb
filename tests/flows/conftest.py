"""What tests of flows share: a project in which nothing happened yet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.adapters.workspace import Workspace
from modelyard.project import Project
from tests.projects import copy_project, load_mlflow, make_project, working_in


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project of two replicas in which nothing happened yet, with MLflow's database."""
    load_mlflow()
    project = make_project(tmp_path_factory.mktemp("empty"), replicas=2)
    Workspace(project).tracking.client.search_experiments()
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture
def workspace(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The parts of a fresh project, which flows find."""
    with working_in(copy_project(empty, tmp_path), monkeypatch) as found:
        yield found
