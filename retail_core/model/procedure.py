"""The training procedure on rows and features: evaluation model, thresholds, refit. Knows no store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker, Matrix
from retail_core.model.evaluation.metrics import OPEN_CART_COLUMN, Judged
from retail_core.model.families import AUTO, Choice, families
from retail_core.model.fitting import (
    BLOCKS,
    calibrators_of,
    cross_fitted_and_refitted,
    fit_ranker,
    own_policies,
    raw_scores,
    recipe_of,
)
from retail_core.model.sampling import Floats, Sampling
from retail_core.model.search import SearchResult, SearchRows, search
from retail_core.model.splits import PeriodFolds, time_blocks
from retail_core.model.threshold_transfer import MOST_BUYERS, Buyers, needed_share, needed_within, reached_at
from retail_core.model.thresholds import (
    RecallThreshold,
    best_f1_threshold,
    one_per_buyer,
    recall_threshold,
    refuse_uncertifiable,
)
from retail_core.settings import Settings


@dataclass(frozen=True)
class Points:
    """Operating points of one policy, as calibrated probabilities; `in_use` is the one for contact.

    `needed` has for each certification buyer the share of rows to contact until she is reached.
    """

    f1: float
    recall: RecallThreshold
    no_miss: RecallThreshold
    in_use: RecallThreshold
    needed: Floats

    def to_dict(self) -> dict[str, float]:
        """Thresholds by name."""
        return {
            "f1": self.f1,
            "recall": self.recall.threshold,
            "no-miss": self.no_miss.threshold,
            "contact": self.in_use.threshold,
        }


@dataclass(frozen=True)
class Goal:
    """The recall that `contact` is to reach, and how sure of it.

    With `must_certify` a target below 1.0 without a certificate is an error; else it is left out.
    """

    target_recall: float
    confidence: float
    seed: int
    must_certify: bool = False


def run_search(data: TrainingData, settings: Settings, model: str = AUTO) -> SearchResult:
    """Search the families of `model` on at most `settings.search_rows` of the train period's sampled rows.

    Those of the primary policy, where it learns from them alone; the choice holds for every policy.
    """
    chosen = data.rows["period"].eq("train") & data.rows["fit"]
    if data.policies[0] in own_policies(data.rows[chosen]):
        chosen &= data.rows["policy"].eq(data.policies[0])
    rows, matrix = data.take(chosen.to_numpy(bool))
    sampling = _smaller(data.fit_sampling, len(rows), settings.search_rows)
    kept = sampling.keep(rows, settings.seed) if sampling != data.fit_sampling else np.ones(len(rows), bool)
    rows, matrix = rows[kept].reset_index(drop=True), matrix[kept]
    folds = PeriodFolds(rows, data.question.horizon)
    carts = data.columns_of(matrix, (OPEN_CART_COLUMN,))
    rule = carts[OPEN_CART_COLUMN].to_numpy(np.float64) if len(carts.columns) else None
    searched = SearchRows(matrix, rows, folds, sampling.negative_rate, rule)
    return search(searched, families(model), seed=settings.seed)


def refuse_uncertifiable_goal(data: TrainingData, goal: Goal) -> None:
    """Before anything is searched: refuse what the primary policy's certification rows cannot certify.

    Raises:
        DataError: see `thresholds.refuse_uncertifiable`.
    """
    rows, _ = period(data, "certify")
    buying = rows["label"] & rows["policy"].eq(data.policies[0])
    if goal.must_certify:
        refuse_uncertifiable(int(rows["user_id"][buying].nunique()), goal.target_recall, goal.confidence)


def _smaller(sampling: Sampling, rows: int, limit: int) -> Sampling:
    """The same draw with lower rates, where the fit's sample is larger than the search may use."""
    if rows <= limit:
        return sampling
    share = limit / rows
    return Sampling(sampling.positive_rate * share, sampling.negative_rate * share)


def evaluation_model(data: TrainingData, choice: Choice, seed: int) -> CalibratedRanker:
    """Fitted on train, calibrated on calibrate: the model whose certify and test rows are looked at."""
    recipe = recipe_of(data, choice, seed)
    model = fit_ranker(*data.take(data.rows["fit"].to_numpy(bool)), data.fit_sampling, recipe)
    rows, matrix = period(data, "calibrate")
    raw, labels = raw_scores(model, rows, matrix), rows["label"].to_numpy(bool)
    model.set_params(calibrators=calibrators_of(rows, raw, labels, None, data.policies))
    return model


def judge_period(model: CalibratedRanker, data: TrainingData, name: str) -> dict[str, Judged]:
    """The judged rows of one period with what the model says, by policy."""
    rows, matrix = period(data, name)
    judged = {}
    for policy in data.policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        labels, raw = rows["label"].to_numpy(bool)[mine], model.raw_score(matrix[mine], policy)
        judged[policy] = Judged(rows["user_id"][mine], labels, raw, model.calibrate(raw, policy))
    return judged


def period(data: TrainingData, name: str) -> tuple[pd.DataFrame, Matrix]:
    """Judged rows and features of one of the later periods."""
    return data.take((data.rows["period"].eq(name) & data.rows["judged"]).to_numpy(bool))


def choose_points(calibrate: Judged, certify: Judged, goal: Goal) -> Points:
    """Thresholds of one policy: best F1 on both periods, recall on one row per buyer of certify."""
    f1 = best_f1_threshold(
        np.concatenate([calibrate.probability, certify.probability]),
        np.concatenate([calibrate.labels, certify.labels]),
    )
    buyers = one_per_buyer(certify.users, certify.labels, goal.seed)
    scores, needed = certify.probability[buyers], needed_share(certify.probability)[buyers]
    if not len(scores):
        nobody = RecallThreshold(
            0.0, None, "there is no buyer in the certification rows: everybody is contacted"
        )
        return Points(f1, nobody, nobody, nobody, needed)
    no_miss = recall_threshold(scores, 1.0, goal.confidence)
    target = recall_threshold(scores, goal.target_recall, goal.confidence)
    return Points(f1, target, no_miss, target, needed)


@dataclass(frozen=True)
class Served:
    """What is served: the refitted model, and by policy its thresholds and the buyers they come from."""

    model: CalibratedRanker
    thresholds: dict[str, dict[str, float]]
    buyers: dict[str, Buyers]


def served_model(data: TrainingData, choice: Choice, points: dict[str, Points], goal: Goal) -> Served:
    """Refit on all matured rows, recalibrated by cross-fitting; and the thresholds it is served with.

    The best-F1 threshold carries over as a calibrated probability, those of recall as the share of rows
    that is contacted (`carry`): the larger one of what the certification buyers and what all buyers,
    cross-fitted, ask for.
    """
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    rows = rows.reset_index(drop=True)
    raw, model = cross_fitted_and_refitted(data, rows, matrix, recipe_of(data, choice, goal.seed))
    labels, policies = rows["label"].to_numpy(bool), data.policies
    weights = data.refit_sampling.weights(labels)
    model.set_params(calibrators=calibrators_of(rows, raw, labels, weights, policies))
    block, buyers, thresholds = time_blocks(rows, BLOCKS), {}, {}
    for policy in policies:
        mine = np.flatnonzero(rows["policy"].eq(policy))
        needed = needed_within(raw[mine], block[mine], weights[mine])
        scale = model.probability(matrix[mine], policy), weights[mine]
        chosen = one_per_buyer(rows["user_id"].iloc[mine], labels[mine], goal.seed)
        buyers[policy] = Buyers(
            reached_at(points[policy].needed[:MOST_BUYERS], *scale),
            reached_at(needed[chosen][:MOST_BUYERS], *scale),
        )
        thresholds[policy] = _carried(points[policy], buyers[policy], goal)
    model.set_params(threshold=thresholds[policies[0]]["f1"])
    return Served(model, thresholds, buyers)


def _carried(points: Points, buyers: Buyers, goal: Goal) -> dict[str, float]:
    contact = buyers.threshold(goal.target_recall, goal.confidence)
    no_miss = buyers.threshold(1.0, goal.confidence)
    return {"f1": points.f1, "recall": contact, "no-miss": no_miss, "contact": contact}
