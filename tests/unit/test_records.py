"""A record holds what it takes to train again, once, and no secret."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modelyard.adapters.learning.environment import model_packages, own_code, training_requirements
from modelyard.adapters.records.code import LONGEST_DIFF, record_code
from modelyard.adapters.records.locks import lock_packages
from modelyard.adapters.records.store import RecordStore, pack, unpack
from modelyard.adapters.records.threads import describe_threads
from modelyard.config import ModelConfig, Training
from modelyard.config.recorded import recorded_config
from modelyard.domain.records import Code, mask_secrets, pins_of
from modelyard.errors import BundleError

SECRET = "hunter2"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    folder = tmp_path / "records"
    folder.mkdir()
    return RecordStore(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a tracked secret, a tracked but ignored file, and a folder of its own."""
    root = tmp_path / "repository"
    (root / "project").mkdir(parents=True)
    for name in (".env", "project/.env.local", "project/server.pem", "ignored.txt", "a.txt"):
        (root / name).write_text("before\n")
    (root / "project" / "model.yaml").write_text("source: a.csv\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    (root / ".gitignore").write_text("ignored.txt\nprivate/\n")
    return root


def git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True
    )
    return done.stdout


def code_of(root: Path, store: RecordStore) -> tuple[Code, str]:
    """Record the code of a project and return it with all that was stored about git."""
    code = record_code(root, root / ".home", Training(estimator="a.B"), store)
    return code, store.get(code.git_diff).decode() if code.git_diff else ""


def test_the_diff_of_a_dirty_tree_is_recorded_without_secret_and_ignored_files(
    repository: Path, store: RecordStore
) -> None:
    for name in (".env", "project/.env.local", "project/server.pem", "ignored.txt"):
        (repository / name).write_text(f"password {SECRET}\n")
    (repository / "a.txt").write_text("after\n")
    source = f"source: postgresql://reader:{SECRET}@host/db\n"
    (repository / "project" / "model.yaml").write_text(source)
    (repository / "new.py").write_text(SECRET)
    (repository / "my.env").write_text(SECRET)
    (repository / "project" / "private").mkdir()
    (repository / "project" / "private" / "x.txt").write_text(SECRET)
    (repository / "project" / ".home").mkdir()
    (repository / "project" / ".home" / "ledger.db").write_text(SECRET)
    code, diff = code_of(repository / "project", store)
    assert code.git_commit == git(repository, "rev-parse", "HEAD").strip()
    assert "-before" in diff
    assert "+after" in diff
    assert "+source: postgresql://reader:***@host/db" in diff
    assert code.untracked == (".gitignore", "new.py")
    kept = [path.read_bytes() for path in store.folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in kept)
    assert SECRET not in code.model_dump_json()


def test_a_clean_tree_has_no_diff_and_no_git_is_no_error(
    repository: Path, store: RecordStore, tmp_path: Path
) -> None:
    (repository / ".gitignore").unlink()
    code, _ = code_of(repository, store)
    assert (code.git_diff, code.untracked) == (None, ())
    outside, _ = code_of(tmp_path, store)
    assert (outside.git_commit, outside.git_diff, outside.untracked) == (None, None, ())
    assert outside.source == code.source


def test_of_a_huge_diff_only_the_names_are_kept(repository: Path, store: RecordStore) -> None:
    (repository / "a.txt").write_text("x" * (LONGEST_DIFF + 1))
    _, diff = code_of(repository, store)
    assert "a.txt" in diff
    assert len(diff) < 1000


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("postgresql+psycopg://u:p/w@h:5432/db", "postgresql+psycopg://u:***@h:5432/db"),
        ("postgresql://u:${PW}@h/db", "postgresql://u:${PW}@h/db"),
        ("postgresql://u:${PW:-hunter2}@h/db", "postgresql://u:***@h/db"),
        ("s3://key:secret@bucket/x.csv", "s3://key:***@bucket/x.csv"),
        ("https://h/x.csv?sig=abc&day=1", "https://h/x.csv?sig=***&day=1"),
        ("https://h/x.csv?token=${TOKEN}", "https://h/x.csv?token=${TOKEN}"),
        ("http://h:8080/x.csv", "http://h:8080/x.csv"),
        ("sqlite:///rows.db", "sqlite:///rows.db"),
        ("data/*.parquet", "data/*.parquet"),
    ],
)
def test_passwords_and_keys_in_urls_are_masked(written: str, kept: str) -> None:
    assert mask_secrets(written) == kept


def test_a_recorded_config_is_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", SECRET)
    config = ModelConfig.model_validate(
        {
            "name": "rides",
            "task": "regression",
            "data": {"source": "postgresql://u:${PW}@h/db", "query": "select 1", "target": "y"},
            "alerts": [f"slack://{SECRET}"],
        }
    )
    recorded = recorded_config(config)
    assert SECRET not in str(recorded)
    assert recorded["data"]["source"] == "postgresql://u:${PW}@h/db"  # pyright: ignore
    assert ModelConfig.model_validate(recorded) == config.model_copy(update={"alerts": ()})


def test_a_lock_has_hashes_and_is_made_once(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = "six==1.17.0\n"
    lock = lock_packages(pins, store)
    assert lock.hashed, lock.note
    text = store.get(lock.file).decode()
    assert "--hash=sha256:" in text
    assert pins_of(text) == {"six": "1.17.0"}
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    assert lock_packages(pins, store) == lock


def test_without_an_index_the_lock_is_the_pins_and_says_so(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline:
        offline.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
        offline.setenv("UV_HTTP_RETRIES", "0")
        offline.setenv("UV_NO_CACHE", "1")
        lock = lock_packages("six==1.17.0\n", store)
    assert not lock.hashed
    assert "no hashes" in lock.note
    assert store.get(lock.file) == b"six==1.17.0\n"
    assert lock_packages("six==1.17.0\n", store).hashed


def test_the_packages_that_a_users_code_imports_belong_to_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_recipe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text("import os, modelyard\nfrom own_recipe.steps import x\n")
    (package / "template.py").write_text("import {{ cookiecutter.name }}\n")
    (package / "steps.py").write_text("x = 1\ndef later():\n    from rich.table import Table\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        packages = model_packages(Training(pipeline="own_recipe.models:build"))
    finally:
        sys.modules.pop("own_recipe", None)
    assert packages == ("rich", "scikit-learn")
    # a package that is installed is pinned, and its own requirements follow from its metadata
    installed = Training(pipeline="rich.table:Table")
    assert own_code(installed) is None
    assert model_packages(installed) == ("rich", "scikit-learn")
    pins = pins_of(training_requirements(packages))
    assert {"rich", "markdown-it-py", "scikit-learn", "skops", "threadpoolctl"} <= pins.keys()
    assert not {"prefect", "mlflow", "docker"} & pins.keys()
    assert model_packages(Training(estimator="sklearn.svm.SVC")) == ("scikit-learn",)


def test_an_archive_depends_on_its_files_alone_and_writes_nothing_outside(tmp_path: Path) -> None:
    assert pack({"b.py": b"2", "a/c.py": b"1"}) == pack({"a/c.py": b"1", "b.py": b"2"})
    unpack(pack({"a/c.py": b"1"}), tmp_path / "x")
    assert (tmp_path / "x" / "a" / "c.py").read_bytes() == b"1"
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as evil:
        evil.writestr("../out.py", "1")
    with pytest.raises(BundleError, match="outside"):
        unpack((tmp_path / "evil.zip").read_bytes(), tmp_path / "x")


def test_a_changed_or_missing_file_is_not_given_out(store: RecordStore) -> None:
    file = store.put(b"content", ".txt")
    assert store.put(b"content", ".txt") == file
    (store.folder / file.name).write_bytes(b"other")
    with pytest.raises(BundleError, match="was changed"):
        store.get(file)
    (store.folder / file.name).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        store.get(file)


def test_thread_settings_name_the_libraries_that_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.ensemble  # noqa: F401  # loads OpenMP and BLAS

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    threads = describe_threads()
    assert threads.limits().keys() == {"blas", "openmp"}
    assert threads.variables["OMP_NUM_THREADS"] == "3"
