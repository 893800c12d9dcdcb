"""Which version follows?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.domain.versioning import Bump, derive_bump, next_version, parse_version

NUMERIC, CATEGORICAL = ColumnKind.NUMERIC, ColumnKind.CATEGORICAL
RECIPE = {"estimator": "E", "params": {"depth": 3}, "seed": 1}


def contract(*columns: Column, **changes: object) -> Contract:
    base = Contract(
        task=MLTask.BINARY, columns=columns, target="y", classes=("no", "yes"), positive="yes"
    )
    return base.model_copy(update=changes)


A = Column(name="a", kind=NUMERIC)
B = Column(name="b", kind=CATEGORICAL)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (contract(A), "b was removed"),
        (contract(A, B, Column(name="c", kind=NUMERIC)), "c is newly required"),
        (contract(A, Column(name="b", kind=NUMERIC)), "b is numeric, was categorical"),
        (contract(A, B, classes=("no", "yes", "maybe")), "the classes are"),
        (contract(A, B, target="z"), "the target is z"),
        (contract(A, B, positive="no"), "the positive class is no"),
        (contract(A, B, task=MLTask.REGRESSION), "the task is regression"),
    ],
)
def test_a_broken_contract_is_a_major_bump_whatever_the_recipe(after: Contract, said: str) -> None:
    derived = derive_bump(contract(A, B), after, RECIPE, {**RECIPE, "seed": 2})
    assert derived.bump is Bump.MAJOR
    assert any(said in reason for reason in derived.reasons)


def test_another_parameter_is_a_minor_bump_that_names_it() -> None:
    derived = derive_bump(
        contract(A, B), contract(A, B), RECIPE, {**RECIPE, "params": {"depth": 4}}
    )
    assert derived.bump is Bump.MINOR
    assert derived.reasons == ("params.depth: 3 → 4",)


def test_an_optional_column_is_a_minor_bump() -> None:
    optional = Column(name="c", kind=NUMERIC, required=False)
    derived = derive_bump(contract(A), contract(A, optional), RECIPE, RECIPE)
    assert derived.bump is Bump.MINOR


def test_a_refit_is_a_patch() -> None:
    assert derive_bump(contract(A, B), contract(A, B), RECIPE, RECIPE).bump is Bump.PATCH


def test_the_first_version_is_one() -> None:
    assert next_version([], None) == "1.0.0"


def test_a_version_counts_from_the_highest_and_not_from_the_newest() -> None:
    assert next_version(["1.0.0", "1.0.10", "1.0.2"], Bump.PATCH) == "1.0.11"
    assert next_version(["1.2.3"], Bump.MINOR) == "1.3.0"
    assert next_version(["1.2.3"], Bump.MAJOR) == "2.0.0"


versions = st.tuples(*[st.integers(0, 50)] * 3).map(lambda v: "{}.{}.{}".format(*v))


@given(st.lists(versions, min_size=1), st.sampled_from(Bump))
def test_the_next_version_is_above_all_former_ones(former: list[str], bump: Bump) -> None:
    following = parse_version(next_version(former, bump))
    assert all(parse_version(version) < following for version in former)


@pytest.mark.parametrize("text", ["1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a version"):
        parse_version(text)
