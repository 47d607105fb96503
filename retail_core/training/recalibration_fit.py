"""Fits of a recalibration: the map that is served, and the procedure repeated day by day to judge it.

The map is fitted on the newest days, so that it holds for the level at which buyers come now; so it cannot be
judged on them. What is judged is the procedure: for each of the judged days it is repeated with what was
known at the beginning of that day (prequential evaluation, Dawid 1984).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray, IndexArray
from retail_core.model import procedure
from retail_core.model.calibration import Calibrator
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import ScoredRows
from retail_core.model.fitting import raw_scores
from retail_core.model.procedure import OperatingPoints, RecallGoal
from retail_core.model.recent_level import calibrate_to_newest_level, on_newest_level
from retail_core.model.thresholds import best_f1_threshold
from retail_core.training.recalibration_rows import JUDGED, days_of


@dataclass(frozen=True)
class RecalibrationFit:
    """Result of a recalibration; dictionaries are by policy.

    Attributes:
        model: with the calibrators that are served, fitted on every row.
        points: its operating points.
        judged_rows: the judged rows, each with the probability of the procedure as of its day.
        rows: all rows, with the probabilities of `model`.
        fitted: positions of the rows at the newest level of buying, which the calibrators are fitted to.
    """

    model: CalibratedRanker
    points: dict[str, OperatingPoints]
    judged_rows: dict[str, ScoredRows]
    rows: dict[str, ScoredRows]
    fitted: IndexArray


def fit_recalibration(old: CalibratedRanker, data: TrainingData, goal: RecallGoal) -> RecalibrationFit:
    """New calibrators for the policies of the rows; the rankers stay.

    Args:
        old: the present model.
        data: rows as of `build_recalibration_data`.
        goal: the recall that `contact` must reach.
    """
    rows = data.rows.assign(raw=raw_scores(old, data.rows, data.matrix), day=days_of(data.rows))
    model = _with_calibrators(old, rows)
    scored = {
        str(policy): _scored(model, of_policy) for policy, of_policy in rows.groupby("policy", sort=False)
    }
    points = {
        policy: _operating_points(scored[policy], rows[rows["policy"].eq(policy)]["day"], goal)
        for policy in data.policies
    }
    model.set_params(threshold=points[data.policies[0]].f1)
    return RecalibrationFit(model, points, _judged_rows(old, data, rows), scored, _fitted_rows(old, rows))


def _fitted_rows(old: CalibratedRanker, rows: pd.DataFrame) -> IndexArray:
    """Positions of all rows of the days at the newest level of the primary policy."""
    primary = rows[rows["policy"].eq(old.primary)]
    newest = on_newest_level(_probabilities(old, primary), primary["label"].to_numpy(bool), primary["day"])
    return np.flatnonzero(rows["day"].isin(primary["day"][newest]))


def _with_calibrators(old: CalibratedRanker, rows: pd.DataFrame) -> CalibratedRanker:
    """The model with calibrators for the newest level; a policy without buyers keeps its own."""
    calibrators: dict[str, Calibrator] = dict(old.calibrators or {})
    for policy, of_policy in rows.groupby("policy", sort=False):
        labels = of_policy["label"].to_numpy(bool)
        if labels.any() and not labels.all():
            raw = of_policy["raw"].to_numpy(float)
            calibrators[str(policy)] = calibrate_to_newest_level(
                calibrators[str(policy)], raw, labels, of_policy["day"]
            )
    return CalibratedRanker(old.rankers, old.factor, calibrators, old.primary)


def _judged_rows(old: CalibratedRanker, data: TrainingData, rows: pd.DataFrame) -> dict[str, ScoredRows]:
    is_judged = rows["period"].eq(JUDGED).to_numpy(bool)
    probability: FloatArray = np.full(len(rows), np.nan)
    ends = rows["as_of"] + data.task.horizon
    for day in rows["day"][is_judged].unique():
        of_day = is_judged & rows["day"].eq(day).to_numpy(bool)
        matured = (ends <= rows["as_of"][of_day].min()).to_numpy(bool)
        model = _with_calibrators(old, rows[matured])
        probability[of_day] = _probabilities(model, rows[of_day])
    rows = rows.assign(probability=probability)[is_judged]
    return {
        str(policy): _scored_rows(of_policy, of_policy["probability"].to_numpy(float))
        for policy, of_policy in rows.groupby("policy", sort=False)
    }


def _probabilities(model: CalibratedRanker, rows: pd.DataFrame) -> FloatArray:
    probability: FloatArray = np.empty(len(rows))
    policies = rows["policy"].to_numpy(object)
    raw = rows["raw"].to_numpy(float)
    for policy in set(policies):
        of_policy: BoolArray = policies == policy
        probability[of_policy] = model.calibrate(raw[of_policy], policy)
    return probability


def _scored(model: CalibratedRanker, rows: pd.DataFrame) -> ScoredRows:
    return _scored_rows(rows, _probabilities(model, rows))


def _scored_rows(rows: pd.DataFrame, probability: FloatArray) -> ScoredRows:
    return ScoredRows(rows["user_id"], rows["label"].to_numpy(bool), rows["raw"].to_numpy(float), probability)


def _operating_points(rows: ScoredRows, days: pd.Series, goal: RecallGoal) -> OperatingPoints:
    """Thresholds by the served probabilities.

    Recall is certified on the buyers of all days: a calibrator keeps the order of users, so the certificate
    holds whatever rows the calibrator was fitted on. The best F1 depends on the level of the probabilities,
    so it is that of the days at the newest level.
    """
    points = procedure.choose_operating_points(rows, rows, goal)
    newest = on_newest_level(rows.probability, rows.labels, days)
    if not rows.labels[newest].any():
        return points
    return replace(points, f1=best_f1_threshold(rows.probability[newest], rows.labels[newest]))
