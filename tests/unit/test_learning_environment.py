"""What a replica must install is read from our own metadata, whatever machine it is for."""

from __future__ import annotations

from packaging.requirements import Requirement

from modelyard.adapters.learning.environment import serving_extra, serving_requirements


def names(requirements: list[str]) -> set[str]:
    return {Requirement(requirement).name for requirement in requirements}


def test_the_serving_extra_is_what_another_machine_needs_and_nothing_more() -> None:
    linux = serving_extra(sys_platform="linux")
    assert {"starlette", "skops", "uvloop"} <= names(linux)
    assert names(linux) - names(serving_extra(sys_platform="win32")) == {"uvloop"}
    assert not names(linux) & {"prefect", "mlflow", "docker", "psycopg", "modelyard"}
    assert not any(";" in requirement for requirement in linux)


def test_a_replica_installs_the_extra_and_the_models_packages_at_one_version_each() -> None:
    pins = serving_requirements(("scikit-learn",)).splitlines()
    assert all("==" in pin for pin in pins)
    assert names(serving_extra()) | {"scikit-learn", "scipy", "h11"} <= names(pins)
    assert len(names(pins)) == len(pins)
