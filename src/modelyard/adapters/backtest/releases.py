"""What would a delivery have led to, with the rows and labels of that moment?

The steps of `flows/model_delivery.py` up to the rollout, over rows in memory: check, train, gate,
learn the holdout. Nothing is registered, built or rolled out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from modelyard.adapters.backtest.fits import FitStore, StoredFit
from modelyard.adapters.backtest.history import History
from modelyard.adapters.baseline import answered_rows, profile_of, windows_within
from modelyard.adapters.checking import Former, check_range_names, measure_rows, policy_of
from modelyard.adapters.data.cells import INFINITE
from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.hashes import content_hashes
from modelyard.adapters.data.selection import Selection, key_columns
from modelyard.adapters.learning.final_fit import judge_answers
from modelyard.adapters.learning.gating import judge, refused
from modelyard.adapters.learning.judging import Challenger, compare_fits
from modelyard.adapters.learning.outcomes import as_truth
from modelyard.adapters.learning.rivals import Rival, has_enough_news, newer_rows
from modelyard.adapters.learning.scorers import find_metric
from modelyard.adapters.outcome_reference import learn_outcomes
from modelyard.adapters.window_judgement import JudgedRelease
from modelyard.config import ModelConfig
from modelyard.domain.data_checks import Champion, Checked
from modelyard.domain.data_rules import check_facts
from modelyard.domain.drift_history import WindowShares
from modelyard.domain.gate import Gated, GateVerdict
from modelyard.domain.profiles import Profile
from modelyard.domain.releases import ReleaseFacts, ReleaseState
from modelyard.domain.values import Contract
from modelyard.domain.versioning import derive_bump, next_version
from modelyard.errors import InvalidInputError


@dataclass(frozen=True)
class PastRelease:
    """A release that would have served."""

    version: str
    since: datetime | None
    """The change before which it learnt no row."""
    contract: Contract
    judged_fit: StoredFit
    """The fit that the gate judged."""
    serving_fit: StoredFit
    """The fit in traffic."""
    training_until: datetime
    learnt_until: datetime
    training_keys: np.ndarray
    """64-bit hashes of what its training rows are known by, shape (rows,)."""
    learnt_keys: np.ndarray
    """Likewise of all rows that the fit in traffic learnt."""
    row_profile: Profile
    """What the rows of the next delivery are compared with."""
    monitored: JudgedRelease
    """What its windows are held against."""
    training_windows: tuple[WindowShares, ...]

    @property
    def id(self) -> str:
        return self.judged_fit.key


@dataclass(frozen=True)
class PastDelivery:
    """What came of a delivery."""

    state: ReleaseState
    """CHAMPION, KEPT_CHAMPION or ABORTED."""
    reasons: tuple[str, ...]
    release: PastRelease | None = None
    fits: tuple[StoredFit, ...] = ()


def deliver(
    history: History,
    config: ModelConfig,
    store: FitStore,
    *,
    now: datetime,
    champion: PastRelease | None = None,
    versions: tuple[str, ...] = (),
    since: datetime | None = None,
) -> PastDelivery:
    """Bring the rows that were known at a moment to a release, if the gate finds it better.

    `versions` are those of the releases so far. Raises DataError for too few rows.
    """
    selection = history.split(config, now, since)
    inferred = infer_contract(config, selection.rows)
    contract, rows = inferred.contract, _Rows(selection)
    checked, profile = _check(config, contract, inferred.left_out, rows, champion)
    if checked.blocks:
        return PastDelivery(ReleaseState.ABORTED, checked.reasons)
    judged = store.fit(config, contract, rows.training, rows.holdout)
    gated = _gate(config, contract, judged, rows, champion)
    if not gated.promotes:
        return PastDelivery(ReleaseState.KEPT_CHAMPION, gated.decision.reasons, fits=(judged,))
    final, fits = judged, (judged,)
    if config.training.include_holdout:
        final = store.fit(config, contract, rows.all, rows.holdout)
        fits = (judged, final)
        refusal = _refuse_final(config, contract, judged, final, rows, gated)
        if refusal is not None:
            return PastDelivery(ReleaseState.ABORTED, (refusal,), fits=fits)
    version = _version(contract, champion, versions)
    release = _release(config, contract, version, judged, final, rows, profile, gated, since)
    return PastDelivery(ReleaseState.CHAMPION, gated.decision.reasons, release, fits)


class _Rows:
    """The rows of one delivery."""

    def __init__(self, selection: Selection) -> None:
        self.training, self.holdout = (
            selection.part(part).reset_index(drop=True) for part in ("training", "holdout")
        )
        self.infinite: dict[str, int] = selection.rows.attrs.get(INFINITE, {})

    @property
    def all(self) -> pd.DataFrame:
        """The training rows and then the holdout's."""
        return pd.concat([self.training, self.holdout], ignore_index=True)


def _check(
    config: ModelConfig,
    contract: Contract,
    left_out: dict[str, str],
    rows: _Rows,
    champion: PastRelease | None,
) -> tuple[Checked, Profile]:
    check_range_names(config.data, contract)
    policy, features = policy_of(config), config.data.features
    former = None
    if champion is not None:
        types = _types(champion.contract)
        known = Champion(version=champion.version, contract=champion.contract, types=types)
        former = Former(known, champion.row_profile)
    facts = measure_rows(
        rows.training,
        rows.holdout,
        contract,
        policy,
        type_of=lambda _: _types(contract),
        declared=frozenset((*(features.numeric or ()), *(features.categorical or ()))),
        left_out=left_out,
        infinite=rows.infinite,
        former=former,
    )
    return check_facts(facts, policy), facts.training


def _types(contract: Contract) -> dict[str, str]:
    return {column.name: str(column.kind) for column in contract.columns}


def _gate(
    config: ModelConfig,
    contract: Contract,
    judged: StoredFit,
    rows: _Rows,
    champion: PastRelease | None,
) -> Gated:
    known_by = key_columns(rows.holdout.columns, config.data, config.evaluation.group)
    challenger = Challenger(
        predictor=judged.predictor,
        model_bytes=judged.model_bytes,
        rows_are_new=champion is None
        or not np.array_equal(
            content_hashes(rows.all[known_by])
            if config.training.include_holdout
            else content_hashes(rows.training[known_by]),
            champion.learnt_keys,
        ),
        recipe_is_new=champion is None or contract.names() != champion.contract.names(),
    )
    rival = None if champion is None else _rival(config, champion, rows.holdout)
    try:
        comparison = compare_fits(config, contract, challenger, rival, rows.holdout, rows.training)
        return judge(comparison, champion, config.evaluation)
    except InvalidInputError as err:
        return refused(str(err), champion)


def _rival(config: ModelConfig, champion: PastRelease, holdout: pd.DataFrame) -> Rival:
    """Return the fit of the champion that a challenger has to beat, as `choose_rival` does."""
    time = config.data.time
    assert time is not None  # `read_history` refuses other configs
    known_by = key_columns(holdout.columns, config.data, config.evaluation.group)

    def rival(fit: StoredFit, until: datetime, keys: np.ndarray, before_holdout: bool) -> Rival:
        def find_known() -> np.ndarray:
            return np.isin(content_hashes(holdout[known_by]), keys)

        return Rival(
            champion.version,
            champion.contract,
            before_holdout,
            *newer_rows(holdout[time], until, find_known),
            lambda: fit.predictor,
        )

    serving = rival(champion.serving_fit, champion.learnt_until, champion.learnt_keys, False)
    is_one_fit = champion.serving_fit.key == champion.judged_fit.key
    if is_one_fit or has_enough_news(config, serving.unseen):
        return serving
    return rival(champion.judged_fit, champion.training_until, champion.training_keys, True)


def _refuse_final(
    config: ModelConfig,
    contract: Contract,
    judged: StoredFit,
    final: StoredFit,
    rows: _Rows,
    gated: Gated,
) -> str | None:
    name = config.evaluation.primary_metric
    rule = judge_answers(
        find_metric(name, config.task),
        contract,
        as_truth(rows.holdout[contract.target], contract),
        judged.said,
        final.said,
        gated.metrics[name],
    )
    return None if rule.verdict is GateVerdict.PROMOTE else rule.reason


def _version(contract: Contract, champion: PastRelease | None, versions: tuple[str, ...]) -> str:
    if champion is None:
        return next_version(versions, None)
    before, after = (ReleaseFacts(contract=c, recipe={}) for c in (champion.contract, contract))
    return next_version(versions, derive_bump(before, after).bump)


def _release(
    config: ModelConfig,
    contract: Contract,
    version: str,
    judged: StoredFit,
    final: StoredFit,
    rows: _Rows,
    profile: Profile,
    gated: Gated,
    since: datetime | None,
) -> PastRelease:
    data, metric = config.data, find_metric(config.evaluation.primary_metric, config.task)
    assert data.time is not None
    said = judged.said
    assert said is not None  # the gate has measured it
    everything = rows.all
    answered = answered_rows(everything, said, contract)
    reference = profile_of(answered, contract, len(rows.holdout))
    known_by = key_columns(everything.columns, data, config.evaluation.group)
    keys = content_hashes(everything[known_by])
    until = rows.holdout[data.time].iloc[-1].to_pydatetime()
    training_until = rows.training[data.time].iloc[-1].to_pydatetime()
    alone = final.key == judged.key
    return PastRelease(
        version=version,
        since=since,
        contract=contract,
        judged_fit=judged,
        serving_fit=final,
        training_until=training_until,
        learnt_until=training_until if alone else until,
        training_keys=keys[: len(rows.training)],
        learnt_keys=keys[: len(rows.training)] if alone else keys,
        row_profile=profile,
        monitored=JudgedRelease(
            version=version,
            contract=contract,
            promised=gated.metrics[metric.name],
            naive=gated.naive_metrics.get(metric.name),
            reference=reference,
            outcomes=learn_outcomes(
                config,
                contract,
                metric,
                rows.holdout,
                said,
                None if data.label_time is None else everything[[data.time, data.label_time]],
            ),
        ),
        training_windows=windows_within(config, answered, contract, reference),
    )
