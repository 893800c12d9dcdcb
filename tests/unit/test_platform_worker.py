"""Is a worker that ends started again, and one that is done not?"""

import sys
from pathlib import Path

import pytest

from modelyard.adapters.platform.worker import keep_worker
from modelyard.project import Project

FAILS_TWICE = """
import sys
from pathlib import Path
count = Path("starts")
starts = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(starts))
sys.exit(starts < 3)
"""


def test_a_worker_that_ends_is_started_again_until_it_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "platform.yaml").write_text("home: .modelyard\n")
    monkeypatch.chdir(tmp_path)

    keep_worker(Project(tmp_path), [sys.executable, "-c", FAILS_TWICE])

    assert (tmp_path / "starts").read_text() == "3"
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "The worker ended with 1; it is started again in 1 s.",
        "The worker ended with 1; it is started again in 2 s.",
    ]
