"""Four real streams in time order, a refit a window: which rule for promoting serves best?

At each window's end all rows whose label is known by then are the data. Each rule serves the next
window with the release that it has chosen; the figure is the mean of the windows' metric, weighted
by rows. The rules:

- never: the first release for good;
- always: a fit on all rows known, a window;
- `>=`: a challenger fitted on a random four fifths takes over if it is at least as good as the
  champion on the other fifth;
- gate: ModelYard's, with the config that ships as an example: judged on the newest rows, which
  neither model was trained on, and then fitted once more with them;
- superior: the same gate where a refit must be better beyond doubt (`evaluation.refit: better`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.progress import track

from benchmarks.claims import Claim, claim, console, data_folder, show
from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.sources import labelled, read_rows
from modelyard.adapters.data.times import as_datetime64
from modelyard.adapters.learning.gating import judge
from modelyard.adapters.learning.judging import Comparison, Judged
from modelyard.adapters.learning.outcomes import Outcomes, as_labels, as_outcomes, as_truth
from modelyard.adapters.learning.pipelines import build_pipeline, fit_baseline, fit_pipeline
from modelyard.adapters.learning.scorers import find_metric
from modelyard.config import Evaluation, ModelConfig, load_model_config
from modelyard.domain.gate import Proof
from modelyard.domain.holdout import split_newest
from modelyard.domain.metrics import Metric
from modelyard.domain.values import Contract
from modelyard.errors import InvalidInputError
from modelyard.serving.estimators import EstimatorPredictor
from modelyard.serving.frames import predict_frame, prepare_features

ROOT = Path(__file__).parent.parent
STREAMS = ("elec2", "hotel_resort", "bank_marketing", "bike_sharing")
_LEAST_ROWS = 50


class Model(NamedTuple):
    """A fit, by what it says about every row of the stream."""

    outcomes: Outcomes
    learnt: np.ndarray
    """Which rows it was fitted on, ascending."""


class Choice(NamedTuple):
    """What a rule served over the stream."""

    metric: float
    decisions: str
    """P for each window that changed the release, k for each that kept it."""


@dataclass(frozen=True)
class Stream:
    """A labelled data set in time order, and its config."""

    config: ModelConfig
    every: int = 1
    """Windows from one refit to the next."""

    @cached_property
    def rows(self) -> pd.DataFrame:
        rows = read_rows(self.config.data, root=ROOT, task=self.config.task)
        return labelled(rows, self.config.data.target)

    @cached_property
    def contract(self) -> Contract:
        return infer_contract(self.config, self.rows).contract

    @cached_property
    def features(self) -> pd.DataFrame:
        return prepare_features(self.rows, self.contract)

    @cached_property
    def labels(self) -> np.ndarray:
        return as_labels(self.rows[self.contract.target], self.contract)

    @cached_property
    def truth(self) -> np.ndarray:
        return as_truth(self.rows[self.contract.target], self.contract)

    @cached_property
    def times(self) -> np.ndarray:
        return as_datetime64(self.rows[self.contract.time])

    @cached_property
    def known(self) -> np.ndarray:
        """When each label was known."""
        data = self.config.data
        if data.label_time is not None:
            return as_datetime64(self.rows[data.label_time])
        return self.times + np.timedelta64(data.label_delay)

    @cached_property
    def ends(self) -> np.ndarray:
        """The moments at which a window ends, from where a third of the rows has come."""
        step = np.timedelta64(self.config.monitoring.window) * self.every
        return np.arange(self.times[len(self.times) // 3], self.times[-1], step)

    @property
    def metric(self) -> Metric:
        return find_metric(self.config.evaluation.primary_metric, self.config.task)

    def known_at(self, moment: np.datetime64) -> np.ndarray:
        return np.flatnonzero((self.known <= moment) & (self.times < moment))

    def within_window(self, rows: np.ndarray, end: np.datetime64) -> np.ndarray:
        window = self.config.training.window
        if isinstance(window, str):
            return rows
        return rows[self.times[rows] >= end - np.timedelta64(window)]

    def fit(self, rows: np.ndarray) -> Model:
        pipeline = build_pipeline(self.config.training, self.contract)
        fitted = fit_pipeline(pipeline, self.features.iloc[rows], self.labels[rows])
        said = predict_frame(EstimatorPredictor(fitted, self.contract), self.features)
        return Model(as_outcomes(said, self.contract), rows)

    def measure(self, model: Model, rows: np.ndarray) -> float:
        said = model.outcomes.for_metric(self.metric)
        return self.metric(self.truth[rows], said[rows])

    def naive(self, learnt: np.ndarray, rows: np.ndarray) -> Outcomes:
        """Return what the naive model, fitted on some rows, says of others."""
        naive = fit_baseline(self.contract.task, self.labels[learnt], self.metric.name)
        said = predict_frame(EstimatorPredictor(naive, self.contract), self.features.iloc[rows])
        return as_outcomes(said, self.contract)

    def compare(self, challenger: Model, champion: Model, rows: np.ndarray) -> Comparison:
        """Return what the gate is shown: a refit of the champion's recipe."""
        return Comparison(
            contract=self.contract,
            rows=self.rows.iloc[rows],
            truth=self.truth[rows],
            times=self.times[rows],
            challenger=Judged("the challenger", _at(challenger, rows)),
            champion=Judged("the champion", _at(champion, rows)),
            champion_note="",
            baseline=Judged("the naive model", self.naive(challenger.learnt, rows)),
            shared={
                name: int(np.isin(rows, model.learnt).sum())
                for name, model in (("the challenger", challenger), ("the champion", champion))
            },
            recipe_is_new=False,
        )


class Fits(NamedTuple):
    """The fits that were possible at one window's end."""

    everything: Model
    judged: Model
    """Without the holdout."""
    holdout: np.ndarray
    four_fifths: Model
    fifth: np.ndarray


def fits_at(stream: Stream, moment: np.datetime64, rng: np.random.Generator) -> Fits:
    """Fit on what was known at a moment, in each rule's way."""
    known = stream.known_at(moment)
    policy = stream.config.evaluation.holdout
    _, held = split_newest(stream.times[known], share=policy.share, span=policy.span)
    holdout = known[held]
    training = stream.within_window(known[~held], stream.times[holdout[0]])
    everything = stream.within_window(known, moment)
    drawn = rng.permutation(everything)
    cut = len(drawn) // 5
    return Fits(
        everything=stream.fit(everything),
        judged=stream.fit(training),
        holdout=holdout,
        four_fifths=stream.fit(np.sort(drawn[cut:])),
        fifth=np.sort(drawn[:cut]),
    )


def never(stream: Stream, fits: list[Fits]) -> Iterator[Model]:
    yield from [fits[0].everything] * len(fits)


def always(stream: Stream, fits: list[Fits]) -> Iterator[Model]:
    yield from (fit.everything for fit in fits)


def at_least_as_good(stream: Stream, fits: list[Fits]) -> Iterator[Model]:
    champion = fits[0].four_fifths
    sign = 1 if stream.metric.higher_is_better else -1
    for fit in fits:
        new, old = (stream.measure(m, fit.fifth) for m in (fit.four_fifths, champion))
        champion = fit.four_fifths if sign * (new - old) >= 0 else champion
        yield champion


def gate(stream: Stream, fits: list[Fits], **changes: Proof) -> Iterator[Model]:
    evaluation = stream.config.evaluation.model_copy(update=changes)
    champion = fits[0].everything
    yield champion
    for fit in fits[1:]:
        newest = stream.times[champion.learnt].max()
        unseen = fit.holdout[stream.times[fit.holdout] > newest]
        if len(unseen) and _promotes(stream, evaluation, fit.judged, champion, unseen):
            champion = fit.everything
        yield champion


def superior(stream: Stream, fits: list[Fits]) -> Iterator[Model]:
    yield from gate(stream, fits, refit=Proof.BETTER)


RULES: dict[str, Callable[[Stream, list[Fits]], Iterator[Model]]] = {
    "never": never,
    "always": always,
    ">=": at_least_as_good,
    "gate": gate,
    "superior": superior,
}


def _promotes(
    stream: Stream, evaluation: Evaluation, challenger: Model, champion: Model, rows: np.ndarray
) -> bool:
    try:
        return judge(stream.compare(challenger, champion, rows), None, evaluation).promotes
    except InvalidInputError:  # one class only among the newest rows
        return False


def _at(model: Model, rows: np.ndarray) -> Outcomes:
    scores = model.outcomes.scores
    return Outcomes(model.outcomes.values[rows], None if scores is None else scores[rows])


def serve(stream: Stream, served: list[Model]) -> Choice:
    """Return how well the chosen releases predicted the window after each choice."""
    bounds = [*stream.ends, np.datetime64("2262-01-01")]
    found, weights = [], []
    for model, start, end in zip(served, bounds[:-1], bounds[1:], strict=True):
        rows = np.flatnonzero((stream.times >= start) & (stream.times < end))
        if len(rows) < _LEAST_ROWS:
            continue
        value = stream.measure(model, rows)
        if np.isfinite(value):
            found.append(value)
            weights.append(len(rows))
    decisions = "".join("k" if new is old else "P" for old, new in pairwise(served))
    return Choice(float(np.average(found, weights=weights)), decisions)


def measure_streams(quick: bool) -> list[Claim]:
    """Serve each stream by each rule."""
    rows, decisions, claims = [], [], []
    for name in STREAMS[-1:] if quick else STREAMS:
        data_folder(name)
        config = load_model_config(ROOT / "configs" / "models", name)
        stream = Stream(config, every=4 if quick else 1)
        rng = np.random.default_rng(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an encoder that meets a category for the first time
            fits = [
                fits_at(stream, end, rng)
                for end in track(stream.ends, f"{name}: refits", console=console, transient=True)
            ]
        chosen = {rule: serve(stream, list(r(stream, fits))) for rule, r in RULES.items()}
        sign = 1 if stream.metric.higher_is_better else -1
        best = max((chosen[rule].metric for rule in RULES), key=lambda value: sign * value)
        rows.append(
            (
                *(name, stream.metric.name, len(stream.ends)),
                *(f"{choice.metric:.4f}" for choice in chosen.values()),
            )
        )
        decisions += [
            (name, rule, choice.decisions, choice.decisions.count("P"))
            for rule, choice in chosen.items()
        ]
        short = sign * (best - chosen["gate"].metric) / abs(best)
        claims.append(
            claim(
                f"{name}: gate behind the best rule, share",
                short,
                "<=",
                stream.config.evaluation.margin,
            )
        )
    show(
        "Real streams: metric served, a refit a window",
        ("stream", "metric", "windows", *RULES),
        rows,
    )
    show(
        "Decisions, window by window (P: promoted, k: kept)",
        ("stream", "rule", "decisions", "releases"),
        decisions,
    )
    return claims
