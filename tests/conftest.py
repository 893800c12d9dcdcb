"""What several kinds of tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from modelyard.adapters.workspace import Workspace
    from modelyard.project import Project

ROOT = Path(__file__).resolve().parent.parent

# One thread a process, here and in what tests start, since tests run in a process for each core:
# threads that wait for each other by spinning cost a small fit ten times its work on busy cores.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of the real data sets; fails in CI where they are not there."""
    folder = Path(os.environ.get("MODELYARD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"The real data sets are not in {folder}; set MODELYARD_DATA.")
        pytest.skip(f"The real data sets are not in {folder}; set MODELYARD_DATA.")
    return folder


def _postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else (Path(on_path).parent if on_path else None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Run a private PostgreSQL cluster on a Unix socket; yield the URL of its server."""
    binaries = _postgres_binaries()
    if binaries is None:
        missing = "PostgreSQL is not installed: its initdb was not found."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Not below pytest's own folder: it is closed to other users whenever a pytest starts, and
    # PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="modelyard-pg-"))
    user = [] if os.geteuid() else ["setpriv", "--reuid=postgres", "--regid=postgres"]
    user += ["--clear-groups"] if user else []
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(tool: str, *words: str) -> None:
        command = [*user, str(binaries / tool), *words]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    data = folder / "data"
    run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://postgres@/{{}}?host={folder}"
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def databases(postgres: str) -> Callable[[str], str]:
    """Make new, empty PostgreSQL databases: a name in, its URL out."""

    def new(kind: str) -> str:
        name = f"{kind}_{uuid.uuid4().hex[:12]}"
        admin = sa.create_engine(postgres.format("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return postgres.format(name)

    return new


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Run a Prefect server of this test process alone; yield the URL of its API."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=180):
            yield str(PREFECT_API_URL.value())


# The small project of `tests.projects`. It is imported where it is used: it takes seconds, which
# tests of rules need not wait for.


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which nothing happened yet; MLflow's database is made, which takes seconds."""
    from modelyard.adapters.learning.environment import training_requirements
    from modelyard.adapters.records.locks import lock_packages
    from modelyard.adapters.records.store import RecordStore
    from modelyard.adapters.workspace import Workspace
    from tests.projects import load_mlflow, make_project

    load_mlflow()
    project = make_project(tmp_path_factory.mktemp("blank"))
    Workspace(project).tracking.client.search_experiments()
    # The package index is asked once, and not by each delivery of each test.
    pins = training_requirements(("scikit-learn",))
    assert lock_packages(pins, RecordStore(project.record_folder())).hashed
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture(scope="session")
def served(blank: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose release 1.0.0 is champion and answered two weeks of rides; no label came.

    Its service is gone, and its log stays.
    """
    from tests.projects import copy_project, release_and_send, working_in

    project = copy_project(blank, tmp_path_factory.mktemp("served"))
    with pytest.MonkeyPatch.context() as patch, working_in(project, patch) as workspace:
        release_and_send(workspace)
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture
def workspace(
    blank: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The parts of a fresh project, which tasks and flows find."""
    yield from _copied(blank, tmp_path, monkeypatch)


@pytest.fixture
def monitored(
    served: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The parts of a project with a champion and two weeks of logged traffic."""
    yield from _copied(served, tmp_path, monkeypatch)


def _copied(template: Project, root: Path, patch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    from tests.projects import copy_project, working_in

    with working_in(copy_project(template, root), patch) as found:
        yield found
