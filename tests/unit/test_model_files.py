"""The same fit is the same model file, whatever process made it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from modelyard.serving.model_file import load_model, save_model
from tests.serving_bundles import fit_regressor, weather

_FIT = """
import sys
{imports}
import numpy as np, pandas as pd
from pathlib import Path
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from modelyard.serving.model_file import save_model

from own import Own

rng = np.random.default_rng(7)
rows = pd.DataFrame({{"a": rng.normal(size=400), "b": rng.choice(["x", "y", None], 400)}})
labels = np.where(rows["a"] + rng.normal(size=400) > 0, "yes", "no").astype(object)
for estimator in (
    HistGradientBoostingClassifier(max_iter=5, random_state=1),
    RandomForestClassifier(n_estimators=5, random_state=1, n_jobs=2),
    LogisticRegression(),
    Own(),
):
    columns = ColumnTransformer([("a", StandardScaler(), ["a"]), ("b", OneHotEncoder(), ["b"])])
    model = make_pipeline(columns, estimator).fit(rows, labels)
    file = save_model(model, Path(sys.argv[1]) / type(estimator).__name__, sample=rows)
    print(type(estimator).__name__, file.format, file.sha256)
"""


def digests(folder: Path, imports: str = "") -> list[str]:
    """Fit the same four pipelines in a fresh process and return their files' digests."""
    (folder.parent / "own.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n\n"
        "class Own(LogisticRegression):\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _FIT.format(imports=imports), str(folder)],
        capture_output=True,
        text=True,
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_same_fit_is_the_same_file_in_another_process(tmp_path: Path) -> None:
    here = digests(tmp_path / "one")
    assert [line.split()[1] for line in here] == ["skops", "skops", "skops", "cloudpickle"]
    assert len({line.split()[2] for line in here}) == 4
    # other packages are loaded, objects lie elsewhere in memory, texts are interned otherwise
    assert digests(tmp_path / "two", "import pyarrow, rich, sklearn.svm") == here


def test_another_fit_is_another_file(tmp_path: Path) -> None:
    one, other = fit_regressor(), fit_regressor()
    other.steps[-1][1]._baseline_prediction += 1e-12
    assert save_model(one, tmp_path / "1").sha256 != save_model(other, tmp_path / "2").sha256


def test_a_stored_model_holds_no_address_and_no_time(tmp_path: Path) -> None:
    estimator = fit_regressor()
    file = save_model(estimator, tmp_path, sample=weather())
    with zipfile.ZipFile(tmp_path / file.path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        arrays = [name for name in archive.namelist() if name != "schema.json"]
        assert arrays
        for name in arrays:
            assert name.startswith(hashlib.sha256(archive.read(name)).hexdigest()[:32])
        assert str(id(estimator)) not in archive.read("schema.json").decode()


def test_what_was_shared_stays_shared(tmp_path: Path) -> None:
    weights = np.array([1.0, 2.0])
    estimator = fit_regressor()
    estimator.one, estimator.same, estimator.equal = weights, weights, weights.copy()
    file = save_model(estimator, tmp_path)
    restored = load_model(file, tmp_path)
    assert restored.one is restored.same
    assert restored.one is not restored.equal
    assert restored.predict(weather()) == pytest.approx(estimator.predict(weather()))
