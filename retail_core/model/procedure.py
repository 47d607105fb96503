"""The training procedure on rows and features: evaluation model, thresholds, refit. Knows no store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from retail_core.arrays import Float32Array, FloatArray
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import OPEN_CART_COLUMN, ScoredRows
from retail_core.model.families import AUTO, RankerConfig, select_families
from retail_core.model.fitting import (
    CROSS_FIT_BLOCKS,
    cross_fit_and_refit,
    fit_calibrators,
    fit_ranker,
    make_fit_plan,
    policies_with_own_ranker,
    raw_scores,
)
from retail_core.model.sampling import Sampling
from retail_core.model.search import SearchResult, SearchRows, search_families
from retail_core.model.splits import PeriodFolds, time_blocks
from retail_core.model.threshold_transfer import (
    MAX_STORED_BUYERS,
    BuyerScores,
    contact_share_to_reach,
    contact_share_within_blocks,
    thresholds_at_contact_share,
)
from retail_core.model.thresholds import (
    RecallThreshold,
    best_f1_threshold,
    recall_threshold,
    refuse_uncertifiable,
    sample_row_per_buyer,
)
from retail_core.settings import Settings


@dataclass(frozen=True)
class OperatingPoints:
    """Operating points of one policy, as calibrated probabilities; `in_use` is the one for contact.

    `needed` has for each certification buyer the share of rows to contact until she is reached.
    """

    f1: float
    recall: RecallThreshold
    no_miss: RecallThreshold
    in_use: RecallThreshold
    contact_shares: FloatArray

    def to_dict(self) -> dict[str, float]:
        """Thresholds by name."""
        return {
            "f1": self.f1,
            "recall": self.recall.threshold,
            "no-miss": self.no_miss.threshold,
            "contact": self.in_use.threshold,
        }


@dataclass(frozen=True)
class RecallGoal:
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
    if data.policies[0] in policies_with_own_ranker(data.rows[chosen]):
        chosen &= data.rows["policy"].eq(data.policies[0])
    rows, matrix = data.take(chosen.to_numpy(bool))
    sampling = _reduce_sampling(data.fit_sampling, len(rows), settings.search_rows)
    kept = sampling.select(rows, settings.seed) if sampling != data.fit_sampling else np.ones(len(rows), bool)
    rows, matrix = rows[kept].reset_index(drop=True), matrix[kept]
    folds = PeriodFolds(rows, data.task.horizon)
    carts = data.columns_of(matrix, (OPEN_CART_COLUMN,))
    rule = carts[OPEN_CART_COLUMN].to_numpy(np.float64) if len(carts.columns) else None
    searched = SearchRows(matrix, rows, folds, sampling.negative_rate, rule)
    return search_families(searched, select_families(model), seed=settings.seed)


def refuse_uncertifiable_goal(data: TrainingData, goal: RecallGoal) -> None:
    """Before anything is searched: refuse what the primary policy's certification rows cannot certify.

    Raises:
        DataError: see `thresholds.refuse_uncertifiable`.
    """
    rows, _ = period_rows(data, "certify")
    buying = rows["label"] & rows["policy"].eq(data.policies[0])
    if goal.must_certify:
        refuse_uncertifiable(int(rows["user_id"][buying].nunique()), goal.target_recall, goal.confidence)


def _reduce_sampling(sampling: Sampling, rows: int, limit: int) -> Sampling:
    """The same draw with lower rates, where the fit's sample is larger than the search may use."""
    if rows <= limit:
        return sampling
    share = limit / rows
    return Sampling(sampling.positive_rate * share, sampling.negative_rate * share)


def fit_evaluation_model(data: TrainingData, choice: RankerConfig, seed: int) -> CalibratedRanker:
    """Fitted on train, calibrated on calibrate: the model whose certify and test rows are looked at."""
    recipe = make_fit_plan(data, choice, seed)
    model = fit_ranker(*data.take(data.rows["fit"].to_numpy(bool)), data.fit_sampling, recipe)
    rows, matrix = period_rows(data, "calibrate")
    raw, labels = raw_scores(model, rows, matrix), rows["label"].to_numpy(bool)
    model.set_params(calibrators=fit_calibrators(rows, raw, labels, None, data.policies))
    return model


def score_period(model: CalibratedRanker, data: TrainingData, name: str) -> dict[str, ScoredRows]:
    """The judged rows of one period with what the model says, by policy."""
    rows, matrix = period_rows(data, name)
    judged = {}
    for policy in data.policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        labels, raw = rows["label"].to_numpy(bool)[mine], model.raw_score(matrix[mine], policy)
        judged[policy] = ScoredRows(rows["user_id"][mine], labels, raw, model.calibrate(raw, policy))
    return judged


def period_rows(data: TrainingData, name: str) -> tuple[pd.DataFrame, Float32Array]:
    """Judged rows and features of one of the later periods."""
    return data.take((data.rows["period"].eq(name) & data.rows["evaluated"]).to_numpy(bool))


def choose_operating_points(calibrate: ScoredRows, certify: ScoredRows, goal: RecallGoal) -> OperatingPoints:
    """Thresholds of one policy: best F1 on both periods, recall on one row per buyer of certify."""
    f1 = best_f1_threshold(
        np.concatenate([calibrate.probability, certify.probability]),
        np.concatenate([calibrate.labels, certify.labels]),
    )
    buyers = sample_row_per_buyer(certify.users, certify.labels, goal.seed)
    scores, needed = certify.probability[buyers], contact_share_to_reach(certify.probability)[buyers]
    if not len(scores):
        nobody = RecallThreshold(
            0.0, None, "there is no buyer in the certification rows: everybody is contacted"
        )
        return OperatingPoints(f1, nobody, nobody, nobody, needed)
    no_miss = recall_threshold(scores, 1.0, goal.confidence)
    target = recall_threshold(scores, goal.target_recall, goal.confidence)
    return OperatingPoints(f1, target, no_miss, target, needed)


@dataclass(frozen=True)
class RefittedModel:
    """What is served: the refitted model, and by policy its thresholds and the buyers they come from."""

    model: CalibratedRanker
    thresholds: dict[str, dict[str, float]]
    buyers: dict[str, BuyerScores]


def refit_for_serving(
    data: TrainingData, choice: RankerConfig, points: dict[str, OperatingPoints], goal: RecallGoal
) -> RefittedModel:
    """Refit on all matured rows, recalibrated by cross-fitting; and the thresholds it is served with.

    The best-F1 threshold carries over as a calibrated probability, those of recall as the share of rows
    that is contacted (`carry`): the larger one of what the certification buyers and what all buyers,
    cross-fitted, ask for.
    """
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    rows = rows.reset_index(drop=True)
    raw, model = cross_fit_and_refit(data, rows, matrix, make_fit_plan(data, choice, goal.seed))
    labels, policies = rows["label"].to_numpy(bool), data.policies
    weights = data.refit_sampling.weights(labels)
    model.set_params(calibrators=fit_calibrators(rows, raw, labels, weights, policies))
    block, buyers, thresholds = time_blocks(rows, CROSS_FIT_BLOCKS), {}, {}
    for policy in policies:
        mine = np.flatnonzero(rows["policy"].eq(policy))
        needed = contact_share_within_blocks(raw[mine], block[mine], weights[mine])
        scale = model.probability(matrix[mine], policy), weights[mine]
        chosen = sample_row_per_buyer(rows["user_id"].iloc[mine], labels[mine], goal.seed)
        buyers[policy] = BuyerScores(
            thresholds_at_contact_share(points[policy].contact_shares[:MAX_STORED_BUYERS], *scale),
            thresholds_at_contact_share(needed[chosen][:MAX_STORED_BUYERS], *scale),
        )
        thresholds[policy] = _transfer_thresholds(points[policy], buyers[policy], goal)
    model.set_params(threshold=thresholds[policies[0]]["f1"])
    return RefittedModel(model, thresholds, buyers)


def _transfer_thresholds(points: OperatingPoints, buyers: BuyerScores, goal: RecallGoal) -> dict[str, float]:
    contact = buyers.threshold(goal.target_recall, goal.confidence)
    no_miss = buyers.threshold(1.0, goal.confidence)
    return {"f1": points.f1, "recall": contact, "no-miss": no_miss, "contact": contact}
