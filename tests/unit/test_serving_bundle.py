"""A bundle is written once, whole, and is refused when anything in it changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modelyard.adapters.learning.packaging import package_release
from modelyard.errors import BundleError
from modelyard.serving.bundle import bundle_digest, load_bundle
from modelyard.serving.model_file import load_model, save_model
from tests.serving_bundles import (
    BINARY,
    PLAIN,
    REGRESSION,
    bundle_of,
    falsify_golden,
    fit_classifier,
    fit_regressor,
    plain_bundle,
    weather,
)

X = pd.DataFrame({"x": np.arange(10.0)})


def test_gradient_boosting_survives_skops_unchanged(tmp_path: Path) -> None:
    estimator = fit_regressor()
    file = save_model(estimator, tmp_path, sample=weather())
    assert file.format == "skops"
    restored = load_model(file, tmp_path)
    assert np.array_equal(restored.predict(weather()), estimator.predict(weather()))


def test_what_skops_cannot_hold_is_cloudpickled(tmp_path: Path) -> None:
    doubled = make_pipeline(FunctionTransformer(lambda x: 2 * x), LinearRegression()).fit(X, X["x"])
    file = save_model(doubled, tmp_path)
    assert file.format == "cloudpickle"
    assert load_model(file, tmp_path).predict(X) == pytest.approx(X["x"].to_numpy())


def test_a_changed_model_file_is_not_loaded(tmp_path: Path) -> None:
    file = save_model(LinearRegression().fit(X, X["x"]), tmp_path)
    path = tmp_path / file.path
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match="was changed"):
        load_model(file, tmp_path)


def test_a_missing_model_file_says_so(tmp_path: Path) -> None:
    file = save_model(LinearRegression().fit(X, X["x"]), tmp_path)
    (tmp_path / file.path).unlink()
    with pytest.raises(BundleError, match="Cannot read"):
        load_model(file, tmp_path)


def test_a_skops_file_with_foreign_types_is_not_loaded(tmp_path: Path) -> None:
    from skops import io

    content = io.dumps({"path": Path("/tmp")})
    assert io.get_untrusted_types(data=content), "the example must be foreign to skops"
    (tmp_path / "model.skops").write_bytes(content)
    plain = save_model(LinearRegression().fit(X, X["x"]), tmp_path / "other")
    forged = plain.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(BundleError, match="other types than were recorded"):
        load_model(forged, tmp_path)
    for types in (None, ("pathlib.PosixPath",)):
        with pytest.raises(BundleError, match="not trusted"):
            load_model(forged.model_copy(update={"types": types}), tmp_path)


def test_a_bundle_predicts_its_golden_rows_after_loading(tmp_path: Path) -> None:
    digest = bundle_of(tmp_path / "r", fit_regressor(), REGRESSION)
    bundle = load_bundle(tmp_path / "r", digest)
    assert bundle.check_golden() > 50
    assert bundle.manifest.provenance == {"commit": "abc"}
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "bundle.json",
        "golden.json",
        "model.skops",
        "requirements.txt",
    ]


def test_writing_the_same_bundle_again_changes_nothing(tmp_path: Path) -> None:
    model = save_model(fit_classifier(), tmp_path / "model")

    def write(version: str) -> str:
        return package_release(
            tmp_path / "r",
            model="bikes",
            version=version,
            contract=BINARY,
            model_file=model,
            model_folder=tmp_path / "model",
            holdout=weather(),
            requirements=lambda runtime: "",
            provenance={},
        ).digest

    first = write("1.0.0")
    assert write("1.0.0") == first == bundle_digest(tmp_path / "r")
    with pytest.raises(BundleError, match="another bundle"):
        write("1.0.1")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("file", ["bundle.json", "golden.json", "model.skops", "requirements.txt"])
def test_a_bundle_with_a_changed_file_is_refused(tmp_path: Path, file: str) -> None:
    digest = plain_bundle(tmp_path / "r", "1.0.0", 2.0)
    path = tmp_path / "r" / file
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(BundleError, match=file.replace(".", r"\.")):
        load_bundle(tmp_path / "r", digest)


def test_a_bundle_with_a_missing_or_an_added_file_is_refused(tmp_path: Path) -> None:
    digest = plain_bundle(tmp_path / "r", "1.0.0", 2.0)
    (tmp_path / "r" / "sitecustomize.py").write_text("")
    with pytest.raises(BundleError, match=r"changed: sitecustomize\.py"):
        load_bundle(tmp_path / "r", digest)
    (tmp_path / "r" / "sitecustomize.py").unlink()
    (tmp_path / "r" / "golden.json").unlink()
    with pytest.raises(BundleError, match=r"changed: golden\.json"):
        load_bundle(tmp_path / "r", digest)


def test_golden_rows_that_disagree_are_found(tmp_path: Path) -> None:
    plain_bundle(tmp_path / "r", "1.0.0", 2.0)
    falsify_golden(tmp_path / "r")
    bundle = load_bundle(tmp_path / "r", bundle_digest(tmp_path / "r"))
    with pytest.raises(BundleError, match="does not predict as recorded: golden row 1"):
        bundle.check_golden()


def test_user_modules_travel_with_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "serving_user_module.py"
    source.write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import serving_user_module  # pyright: ignore[reportMissingImports]

    model = make_pipeline(FunctionTransformer(serving_user_module.double), LinearRegression())
    file = save_model(model.fit(X, X["x"]), tmp_path / "model")
    package_release(
        tmp_path / "r",
        model="bikes",
        version="1.0.0",
        contract=PLAIN,
        model_file=file,
        model_folder=tmp_path / "model",
        holdout=X,
        requirements=lambda runtime: "",
        provenance={},
        code=source,
    )
    assert file.format == "cloudpickle"
    assert (tmp_path / "r" / "code" / source.name).read_text() == source.read_text()
