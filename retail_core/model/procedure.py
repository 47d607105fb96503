"""The training procedure on rows and features: search, evaluation model, thresholds, refit.

Separate from `training`, which reads the data, logs and registers.
"""

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
    """Operating points of one policy, as calibrated probabilities of the evaluation model.

    Attributes:
        f1: threshold of `will_purchase`, with the best F1.
        recall: threshold for the target recall.
        no_miss: lowest probability of any buyer of the certify period.
        in_use: the threshold of `contact`.
        contact_shares: for each of those buyers the share of rows to contact until the buyer is reached.
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
    """The recall that `contact` must reach.

    Attributes:
        target_recall: share of buyers to find.
        confidence: of the certificate.
        seed: of the draw of one row per buyer.
        must_certify: a target below 1.0 that cannot be certified is an error; else the certificate is left
            out.
    """

    target_recall: float
    confidence: float
    seed: int
    must_certify: bool = False


def run_search(data: TrainingData, settings: Settings, model: str = AUTO) -> SearchResult:
    """Search the families of `model` on at most `settings.search_rows` of the rows to fit on.

    The rows are those of the primary policy where it learns from its own rows, else those of all policies;
    the result holds for every policy.
    """
    mask = data.rows["period"].eq("train") & data.rows["fit"]
    if data.policies[0] in policies_with_own_ranker(data.rows[mask]):
        mask &= data.rows["policy"].eq(data.policies[0])
    rows, matrix = data.take(mask.to_numpy(bool))
    sampling = _reduce_sampling(data.fit_sampling, len(rows), settings.search_rows)
    if sampling != data.fit_sampling:
        sampled = sampling.select(rows, settings.seed)
        rows, matrix = rows[sampled], matrix[sampled]
    rows = rows.reset_index(drop=True)
    folds = PeriodFolds(rows, data.task.horizon)
    carts = data.columns_of(matrix, (OPEN_CART_COLUMN,))
    rule = carts[OPEN_CART_COLUMN].to_numpy(np.float64) if len(carts.columns) else None
    search_rows = SearchRows(matrix, rows, folds, sampling.negative_rate, rule)
    return search_families(search_rows, select_families(model), seed=settings.seed)


def refuse_uncertifiable_goal(data: TrainingData, goal: RecallGoal) -> None:
    """Refuse, before the search, a goal that the certify rows of the primary policy cannot certify.

    Raises:
        DataError: see `thresholds.refuse_uncertifiable`.
    """
    rows, _ = period_rows(data, "certify")
    buying = rows["label"] & rows["policy"].eq(data.policies[0])
    if goal.must_certify:
        refuse_uncertifiable(int(rows["user_id"][buying].nunique()), goal.target_recall, goal.confidence)


def _reduce_sampling(sampling: Sampling, rows: int, limit: int) -> Sampling:
    """Lower rates, where the sample of the fit has more rows than the limit; a nested sample."""
    if rows <= limit:
        return sampling
    share = limit / rows
    return Sampling(sampling.positive_rate * share, sampling.negative_rate * share)


def fit_evaluation_model(data: TrainingData, config: RankerConfig, seed: int) -> CalibratedRanker:
    """The model whose metrics are reported: fitted on the train period, calibrated on calibrate."""
    plan = make_fit_plan(data, config, seed)
    model = fit_ranker(*data.take(data.rows["fit"].to_numpy(bool)), data.fit_sampling, plan)
    rows, matrix = period_rows(data, "calibrate")
    raw, labels = raw_scores(model, rows, matrix), rows["label"].to_numpy(bool)
    model.set_params(calibrators=fit_calibrators(rows, raw, labels, None, data.policies))
    return model


def score_period(model: CalibratedRanker, data: TrainingData, name: str) -> dict[str, ScoredRows]:
    """The evaluated rows of one period with the model's scores, by policy."""
    rows, matrix = period_rows(data, name)
    scored = {}
    for policy in data.policies:
        of_policy = rows["policy"].eq(policy).to_numpy(bool)
        labels = rows["label"].to_numpy(bool)[of_policy]
        raw = model.raw_score(matrix[of_policy], policy)
        scored[policy] = ScoredRows(rows["user_id"][of_policy], labels, raw, model.calibrate(raw, policy))
    return scored


def period_rows(data: TrainingData, name: str) -> tuple[pd.DataFrame, Float32Array]:
    """Evaluated rows and features of one of the later periods."""
    return data.take((data.rows["period"].eq(name) & data.rows["evaluated"]).to_numpy(bool))


def choose_operating_points(calibrate: ScoredRows, certify: ScoredRows, goal: RecallGoal) -> OperatingPoints:
    """Thresholds of one policy: best F1 on both periods, recall on one row per buyer of certify."""
    f1 = best_f1_threshold(
        np.concatenate([calibrate.probability, certify.probability]),
        np.concatenate([calibrate.labels, certify.labels]),
    )
    buyers = sample_row_per_buyer(certify.users, certify.labels, goal.seed)
    scores, shares = certify.probability[buyers], contact_share_to_reach(certify.probability)[buyers]
    if not len(scores):
        no_buyers = RecallThreshold(
            0.0, None, "there is no buyer in the certification rows: everybody is contacted"
        )
        return OperatingPoints(f1, no_buyers, no_buyers, no_buyers, shares)
    no_miss = recall_threshold(scores, 1.0, goal.confidence)
    target = recall_threshold(scores, goal.target_recall, goal.confidence)
    return OperatingPoints(f1, target, no_miss, target, shares)


@dataclass(frozen=True)
class RefittedModel:
    """The model to serve, and by policy its thresholds and the buyers they are derived from."""

    model: CalibratedRanker
    thresholds: dict[str, dict[str, float]]
    buyers: dict[str, BuyerScores]


def refit_for_serving(
    data: TrainingData, config: RankerConfig, points: dict[str, OperatingPoints], goal: RecallGoal
) -> RefittedModel:
    """Refit on all matured rows with calibrators from cross-fitted scores, and transfer the thresholds.

    The best-F1 threshold is transferred as a calibrated probability, those of recall as contact shares
    (`threshold_transfer`): the larger share of what the buyers of the certify period and what all buyers,
    cross-fitted, require.
    """
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    rows = rows.reset_index(drop=True)
    raw, model = cross_fit_and_refit(data, rows, matrix, make_fit_plan(data, config, goal.seed))
    labels, policies = rows["label"].to_numpy(bool), data.policies
    weights = data.refit_sampling.weights(labels)
    model.set_params(calibrators=fit_calibrators(rows, raw, labels, weights, policies))
    block, buyers, thresholds = time_blocks(rows, CROSS_FIT_BLOCKS), {}, {}
    for policy in policies:
        positions = np.flatnonzero(rows["policy"].eq(policy))
        shares = contact_share_within_blocks(raw[positions], block[positions], weights[positions])
        scale = model.probability(matrix[positions], policy), weights[positions]
        sampled = sample_row_per_buyer(rows["user_id"].iloc[positions], labels[positions], goal.seed)
        buyers[policy] = BuyerScores(
            thresholds_at_contact_share(points[policy].contact_shares[:MAX_STORED_BUYERS], *scale),
            thresholds_at_contact_share(shares[sampled][:MAX_STORED_BUYERS], *scale),
        )
        thresholds[policy] = _transfer_thresholds(points[policy], buyers[policy], goal)
    model.set_params(threshold=thresholds[policies[0]]["f1"])
    return RefittedModel(model, thresholds, buyers)


def _transfer_thresholds(points: OperatingPoints, buyers: BuyerScores, goal: RecallGoal) -> dict[str, float]:
    contact = buyers.threshold(goal.target_recall, goal.confidence)
    no_miss = buyers.threshold(1.0, goal.confidence)
    return {"f1": points.f1, "recall": contact, "no-miss": no_miss, "contact": contact}
