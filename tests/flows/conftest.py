"""What tests of flows share: services of two replicas, as flows should leave them."""

from __future__ import annotations

import pytest

from modelyard.adapters.workspace import Workspace
from tests.projects import write_config


@pytest.fixture
def workspace(workspace: Workspace) -> Workspace:
    write_config(workspace.project.root, replicas=2)
    return workspace


@pytest.fixture
def monitored(monitored: Workspace) -> Workspace:
    write_config(monitored.project.root, replicas=2)
    return monitored
