"""Which version follows?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.releases import ReleaseFacts
from modelyard.domain.values import Column, ColumnKind, Contract, MLTask
from modelyard.domain.versioning import Bump, derive_bump, next_version, parse_version

NUMERIC, CATEGORICAL = ColumnKind.NUMERIC, ColumnKind.CATEGORICAL
RECIPE = {"estimator": "E", "params": {"depth": 3}, "seed": 1}


def contract(*columns: Column, **changes: object) -> Contract:
    base = Contract(
        task=MLTask.BINARY, columns=columns, target="y", classes=("no", "yes"), positive="yes"
    )
    return base.model_copy(update=changes)


def facts(contract: Contract, recipe: dict = RECIPE, requirements: str = "") -> ReleaseFacts:
    return ReleaseFacts(contract=contract, recipe=recipe, requirements=requirements)


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
    derived = derive_bump(facts(contract(A, B)), facts(after, {**RECIPE, "seed": 2}))
    assert derived.bump is Bump.MAJOR
    assert any(said in reason for reason in derived.reasons)


def test_another_parameter_is_a_minor_bump_that_names_it() -> None:
    deeper = facts(contract(A, B), {**RECIPE, "params": {"depth": 4}})
    derived = derive_bump(facts(contract(A, B)), deeper)
    assert derived.bump is Bump.MINOR
    assert derived.reasons == ("params.depth: 3 → 4",)


def test_an_optional_column_is_a_minor_bump() -> None:
    optional = Column(name="c", kind=NUMERIC, required=False)
    derived = derive_bump(facts(contract(A)), facts(contract(A, optional)))
    assert derived.bump is Bump.MINOR


def test_a_refit_is_a_patch() -> None:
    assert derive_bump(facts(contract(A, B)), facts(contract(A, B))).bump is Bump.PATCH


@pytest.mark.parametrize(
    ("before", "after", "bump"),
    [
        ("numpy==2.1.3\n", "numpy==2.1.4\n", Bump.PATCH),
        ("numpy==2.1.3\n", "numpy==2.2.0\n", Bump.MINOR),
        ("numpy==2.1.3\n", "numpy==2.1.3\nextra==1.0\n", Bump.MINOR),
        ("numpy==2.1\n", "numpy==2.1.post1\n", Bump.PATCH),
    ],
)
def test_a_dependency_is_a_patch_only_where_its_own_change_is_one(
    before: str, after: str, bump: Bump
) -> None:
    derived = derive_bump(
        facts(contract(A), requirements=before), facts(contract(A), requirements=after)
    )
    assert derived.bump is bump


def test_another_python_is_a_minor_bump() -> None:
    old, new = (
        facts(contract(A)).model_copy(update={"environment": {"python": version}})
        for version in ("3.11.7", "3.12.1")
    )
    assert derive_bump(old, new).reasons == ("Python 3.11.7 → 3.12.1",)


def test_a_person_can_raise_the_bump_and_never_lower_it() -> None:
    refit, deeper = facts(contract(A)), facts(contract(A), {**RECIPE, "params": {"depth": 4}})
    raised = derive_bump(refit, refit, Bump.MAJOR)
    assert raised.bump is Bump.MAJOR
    assert raised.reasons[0] == "MAJOR was asked for; the facts alone make it PATCH"
    assert derive_bump(refit, deeper, Bump.PATCH) == derive_bump(refit, deeper)


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


names = st.sampled_from("abcde")
columns = st.lists(
    st.builds(Column, name=names, kind=st.sampled_from(ColumnKind), required=st.booleans()),
    unique_by=lambda column: column.name,
    max_size=5,
).map(tuple)
contracts = st.builds(
    Contract,
    task=st.sampled_from(MLTask),
    columns=columns,
    target=st.sampled_from(["y", "z"]),
    classes=st.sampled_from([(), ("no", "yes"), ("no", "yes", "maybe")]),
    positive=st.sampled_from([None, "no", "yes"]),
)
recipes = st.dictionaries(names, st.one_of(st.integers(), st.dictionaries(names, names)))
pins = st.dictionaries(names, versions).map(
    lambda found: "".join(f"{name}=={version}\n" for name, version in found.items())
)
everything = st.builds(ReleaseFacts, contract=contracts, recipe=recipes, requirements=pins)


def accepts(contract: Contract, sent: set[str]) -> bool:
    """Whether a caller that sends these columns gets an answer."""
    required = {column.name for column in contract.columns if column.required}
    return required <= sent <= set(contract.names())


@given(everything, everything, st.sampled_from([None, *Bump]))
def test_any_two_releases_have_one_bump_with_reasons(
    before: ReleaseFacts, after: ReleaseFacts, asked: Bump | None
) -> None:
    derived = derive_bump(before, after, asked)
    assert derived == derive_bump(before, after, asked)
    assert derived.reasons
    assert all(derived.reasons)


@given(everything, everything, st.sampled_from([None, *Bump]))
def test_what_breaks_a_caller_is_never_below_major(
    before: ReleaseFacts, after: ReleaseFacts, asked: Bump | None
) -> None:
    old, new = before.contract, after.contract
    kinds = {column.name: column.kind for column in old.columns}
    answers = ("task", "target", "classes", "positive")
    names = list(kinds)
    callers = [
        {name for place, name in enumerate(names) if bits >> place & 1}
        for bits in range(2 ** len(names))
    ]
    breaks = (
        any(accepts(old, sent) and not accepts(new, sent) for sent in callers)
        or any(c.kind is not kinds[c.name] for c in new.columns if c.name in kinds)
        or any(getattr(old, name) != getattr(new, name) for name in answers)
    )
    assert (derive_bump(before, after, asked).bump is Bump.MAJOR) >= breaks


@given(everything)
def test_the_same_made_again_is_a_patch(release: ReleaseFacts) -> None:
    assert derive_bump(release, release).bump is Bump.PATCH
