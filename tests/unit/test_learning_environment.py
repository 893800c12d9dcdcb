"""What a replica must install is read from our own metadata, whatever machine it is for."""

from __future__ import annotations

from packaging.requirements import Requirement

from modelyard.adapters.learning.environment import (
    pinned_requirements,
    select_requirements,
    serving_extra,
    serving_requirements,
)
from modelyard.config import Training
from modelyard.domain.values import Runtime


def names(requirements: list[str]) -> set[str]:
    return {Requirement(requirement).name for requirement in requirements}


def test_the_serving_extra_is_what_another_machine_needs_and_nothing_more() -> None:
    linux = serving_extra(sys_platform="linux")
    assert {"starlette", "orjson", "uvloop"} <= names(linux)
    assert names(linux) - names(serving_extra(sys_platform="win32")) == {"uvloop"}
    assert not names(linux) & {"prefect", "mlflow", "docker", "psycopg", "modelyard"}
    assert not any(";" in requirement for requirement in linux)


def test_a_replica_installs_its_runtime_and_the_models_packages_at_one_version_each() -> None:
    pins = serving_requirements(("scikit-learn",), Runtime.SKLEARN).splitlines()
    assert all("==" in pin for pin in pins)
    assert names(serving_extra()) | {"scikit-learn", "scipy", "pandas", "h11"} <= names(pins)
    assert len(names(pins)) == len(pins)


def test_a_compiled_release_needs_neither_pandas_nor_scikit_learn() -> None:
    compiled = names(serving_requirements(("scikit-learn",), Runtime.COMPILED).splitlines())
    assert {"onnxruntime", "starlette", "numpy"} <= compiled
    assert not compiled & {"pandas", "scikit-learn", "scipy", "skops", "skl2onnx"}


def test_a_runtimes_requirements_keep_the_versions_of_the_training() -> None:
    training = Training(estimator="sklearn.linear_model.Ridge")
    pins = pinned_requirements(training).replace("starlette==", "starlette==0.0.")
    for runtime in Runtime:
        chosen = select_requirements(pins, training, runtime)
        assert set(chosen.splitlines()) < set(pins.splitlines())
        assert "starlette==0.0." in chosen
        assert ("onnxruntime" in chosen, "pandas" in chosen) == (
            runtime is Runtime.COMPILED,
            runtime is Runtime.SKLEARN,
        )
