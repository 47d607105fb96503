"""Every figure of an evaluation under any weights of the rows: once for its value, often for its interval.

Rows are sorted once; one set of weights then costs a few passes over them, so that resampling users some
hundred times stays within seconds on hundreds of thousands of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retail_core.model.calibration import logit
from retail_core.model.sampling import Floats

if TYPE_CHECKING:
    from retail_core.model.evaluation.metrics import Judged

SHARES = (0.01, 0.05, 0.10, 0.20)
"""Parts of the list, best first, whose lift and recall are told."""

_ECE_BINS, _SLOPE_BINS, _NEWTON_STEPS = 10, 200, 25


class Figures:
    """Figures of judged rows by name, as functions of the rows' weights.

    Average precision and the area under the ROC curve rank by `raw`, ties together. ECE compares promise
    and truth in ten bins of equally many rows. `slope` is that of a logistic regression of the outcome on
    the log odds promised (Cox, Biometrika 1958): 1 is right, below 1 promises too much spread.
    """

    def __init__(self, rows: Judged, f1_threshold: float) -> None:
        self._order = np.argsort(-rows.raw, kind="stable")
        ranked = rows.raw[self._order]
        self._labels = rows.labels[self._order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        probability = rows.probability[self._order]
        self._chosen = (probability >= f1_threshold).astype(np.float64)
        self._error = (probability - self._labels) ** 2
        self._probability = probability
        self._tenths = _equal_bins(probability, _ECE_BINS)
        self._cells = _equal_bins(probability, _SLOPE_BINS)
        self._odds = _means(logit(probability), self._cells)

    def __call__(self, weights: npt.NDArray[np.int64]) -> dict[str, float]:
        """All figures; those of ranking are NaN where all rows with weight have the same answer."""
        weight = weights[self._order].astype(np.float64)
        bought = weight * self._labels
        total, buyers = float(weight.sum()), float(bought.sum())
        base = buyers / total
        brier = float((weight * self._error).sum()) / total
        spread = base * (1 - base)
        return {
            **self._ranking(weight, bought, total, buyers),
            **self._choice(weight, bought, buyers),
            "brier": brier,
            "brier_skill": 1 - brier / spread if spread else np.nan,
            "ece": self._ece(weight, bought, total),
            "slope": self._slope(weight, bought),
        }

    def _ranking(self, weight: Floats, bought: Floats, total: float, buyers: float) -> dict[str, float]:
        seen, found = np.cumsum(weight), np.cumsum(bought)
        others = total - buyers
        if not buyers or not others:
            nothing = {
                f"{kind}_at_{share * 100:g}": np.nan for share in SHARES for kind in ("lift", "recall")
            }
            return {"ap": np.nan, "auc": np.nan, **nothing}
        at, hits = seen[self._ends], found[self._ends]
        gained = np.diff(hits, prepend=0.0)
        ap = float((gained * hits / np.maximum(at, 1e-12)).sum() / buyers)
        false = at - hits
        area = float((np.diff(false, prepend=0.0) * (hits - gained / 2)).sum())
        recalls = {share: self._recall_at(share, seen, found, buyers) for share in SHARES}
        return {
            "ap": ap,
            "auc": area / (buyers * others),
            **{f"recall_at_{share * 100:g}": recall for share, recall in recalls.items()},
            **{f"lift_at_{share * 100:g}": recall / share for share, recall in recalls.items()},
        }

    def _recall_at(self, share: float, seen: Floats, found: Floats, buyers: float) -> float:
        """Buyers among the best `share` of the rows; the row on the edge counts in part."""
        edge = share * seen[-1]
        place = min(int(np.searchsorted(seen, edge)), len(seen) - 1)
        before = (seen[place - 1], found[place - 1]) if place else (0.0, 0.0)
        width = seen[place] - before[0]
        part = (edge - before[0]) / width if width else 0.0
        return float(before[1] + part * (found[place] - before[1])) / buyers

    def _choice(self, weight: Floats, bought: Floats, buyers: float) -> dict[str, float]:
        hits, picked = float((bought * self._chosen).sum()), float((weight * self._chosen).sum())
        return {
            "f1": 2 * hits / (buyers + picked) if hits else 0.0,
            "recall": hits / buyers if buyers else 0.0,
            "precision": hits / picked if picked else 0.0,
        }

    def _ece(self, weight: Floats, bought: Floats, total: float) -> float:
        promised = np.bincount(self._tenths, weight * self._probability)
        return float(np.abs(promised - np.bincount(self._tenths, bought)).sum() / total)

    def _slope(self, weight: Floats, bought: Floats) -> float:
        """Newton's method, in bounded steps, on cells of nearly equal probability."""
        rows, hits = np.bincount(self._cells, weight), np.bincount(self._cells, bought)
        if not 0 < hits.sum() < rows.sum() or np.ptp(self._odds) < 1e-9:
            return float("nan")
        design = np.column_stack([np.ones(len(rows)), self._odds])
        found = np.array([logit(np.array([hits.sum() / rows.sum()]))[0], 0.0])
        for _ in range(_NEWTON_STEPS):
            promised = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
            bend = design.T @ (design * (rows * promised * (1 - promised))[:, None])
            step = np.linalg.solve(bend + 1e-9 * np.eye(2), design.T @ (hits - rows * promised))
            found = found + np.clip(step, -1, 1)
        return float(found[1])


def _equal_bins(values: Floats, bins: int) -> npt.NDArray[np.intp]:
    """The bin of each value: equally many values each, in order; ties are cut."""
    number = np.empty(len(values), dtype=np.intp)
    number[np.argsort(values, kind="stable")] = np.arange(len(values)) * bins // max(len(values), 1)
    return number


def _means(values: Floats, bins: npt.NDArray[np.intp]) -> Floats:
    return np.asarray(np.bincount(bins, values) / np.maximum(np.bincount(bins), 1), dtype=np.float64)
