"""How well does one column alone predict the target?

A column that is made from the outcome predicts it almost perfectly, whatever the other columns are.
Each column is cut into bins of equal mass (or its levels), and the outcome of a row is predicted by
the mean of its bin over the rows of the other folds: a tree of one split with many leaves, whose
cost is a few sums. Numbers are scored on the ranks of the target, so that its scale, a long tail or
a logarithm change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelyard.domain.profiles import equal_mass_edges

MIN_ROWS = 100
"""Rows below which a column predicts by chance."""
MAX_CELLS = 20_000_000
"""Rows times columns that are looked at: a few seconds."""
MAX_ROWS = 20_000
_FOLDS = 3
_MAX_BINS = 256
_ROWS_A_BIN = 10
"""So many that hardly ever all of them are in one fold, with nothing to predict it from."""
_MAX_CLASSES = 20


def sample_rows(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Return the rows to score columns on, ascending; fewer where there are many columns."""
    most = min(MAX_ROWS, max(MIN_ROWS * 5, MAX_CELLS // max(columns, 1)))
    return np.arange(rows) if rows <= most else np.sort(rng.choice(rows, most, replace=False))


@dataclass(frozen=True)
class Outcome:
    """A target, ready to be predicted by many columns."""

    parts: np.ndarray
    """Shape (k, rows): ranks from 0 to 1 for a number, one row of 0 and 1 a class for classes."""
    fold: np.ndarray
    """Fold of each row, shape (rows,)."""
    is_class: bool

    def score(self, codes: np.ndarray) -> float:
        """Return how well bins predict the outcome, out of fold; codes of shape (rows,) from 0.

        Explained variance of the ranks for a number; for classes the area under the ROC curve, as
        the mean over classes of one against the rest. NaN where the outcome does not vary.
        """
        bins = int(codes.max()) + 1
        group = self.fold * bins + codes
        shape, size = (_FOLDS, bins), _FOLDS * bins
        rows = np.bincount(group, minlength=size).reshape(shape)
        scores = []
        for part in self.parts:
            sums = np.bincount(group, weights=part, minlength=size).reshape(shape)
            others = rows.sum(axis=0) - rows
            of_others = sums.sum(axis=0) - sums
            mean = np.full(shape, part.mean())
            np.divide(of_others, others, out=mean, where=others > 0)
            if self.is_class:
                scores.append(_area(mean, sums, rows - sums))
            else:
                spread = float(((part - part.mean()) ** 2).sum())
                error = float((part**2).sum() - 2 * (mean * sums).sum() + (rows * mean**2).sum())
                scores.append(1.0 - error / spread if spread > 0 else np.nan)
        return float(np.mean(scores)) if scores else np.nan


def numeric_outcome(target: np.ndarray, rng: np.random.Generator) -> Outcome:
    """Prepare numbers, shape (rows,), all finite."""
    values, place, count = np.unique(target, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2
    ranks = middle[place] / max(len(target) - 1, 1) if len(values) else target
    return Outcome(ranks[None, :], _folds(len(target), rng), is_class=False)


def class_outcome(target: np.ndarray, rng: np.random.Generator) -> Outcome:
    """Prepare class codes from 0, shape (rows,); of many classes the most frequent ones."""
    count = np.bincount(target)
    kept = np.flatnonzero((count > 0) & (count < len(target)))
    kept = kept[np.argsort(-count[kept], kind="stable")][:_MAX_CLASSES]
    if np.count_nonzero(count) == 2:  # one against the rest is the same for both
        kept = kept[-1:]
    parts = (target == kept[:, None]).astype(np.float64)
    return Outcome(parts, _folds(len(target), rng), is_class=True)


def numeric_bins(values: np.ndarray) -> np.ndarray:
    """Return the bin of each number, shape (rows,); what is missing or infinite has its own."""
    present = np.isfinite(values)
    bins = int(np.clip(len(values) // _ROWS_A_BIN, 8, _MAX_BINS))
    edges = equal_mass_edges(values[present], bins)
    codes = np.zeros(len(values), dtype=np.int64)
    codes[present] = np.searchsorted(edges, values[present], side="right") + 1
    return codes


def level_bins(values: np.ndarray) -> np.ndarray:
    """Return the bin of each level, objects of shape (rows,); the rarest share one."""
    codes: dict[object, int] = {}
    found = np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.int64)
    count = np.bincount(found)
    if len(count) <= _MAX_BINS:
        return found
    order = np.argsort(np.argsort(-count, kind="stable"), kind="stable")
    return np.minimum(order, _MAX_BINS)[found]


def _folds(rows: int, rng: np.random.Generator) -> np.ndarray:
    # Drawn, not in turn: hours or weekdays would all fall into one fold.
    return rng.permutation(rows) % _FOLDS


def _area(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the area under the ROC curve of groups of rows with one score each."""
    _, place = np.unique(score, return_inverse=True)
    place = place.ravel()
    pos = np.bincount(place, weights=positive.ravel())
    neg = np.bincount(place, weights=negative.ravel())
    pairs = pos.sum() * neg.sum()
    below = np.cumsum(neg) - neg
    return float((pos * (below + neg / 2)).sum() / pairs) if pairs else np.nan
