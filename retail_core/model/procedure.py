"""The training procedure on rows and features: evaluation model, thresholds, refit. Knows no store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from retail_core.model.calibration import Calibrator, fit_calibrator
from retail_core.model.carry import MOST_BUYERS, Buyers, needed_share, needed_within, reached_at
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker, Matrix
from retail_core.model.evaluation import OPEN_CART_COLUMN, Judged
from retail_core.model.families import AUTO, Choice, families
from retail_core.model.sampling import Floats, Sampling
from retail_core.model.search import SearchResult, SearchRows, search
from retail_core.model.splits import Mask, PeriodFolds, after, before, enough_days, time_blocks
from retail_core.model.thresholds import (
    RecallThreshold,
    best_f1_threshold,
    one_per_buyer,
    recall_threshold,
    refuse_uncertifiable,
)
from retail_core.settings import Settings

BLOCKS = 3


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
    """Search the families of `model` on at most `settings.search_rows` of the train period's sampled rows."""
    train = data.rows["period"].eq("train").to_numpy(bool) & data.rows["fit"].to_numpy(bool)
    rows, matrix = data.take(train)
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


def fit_ranker(
    rows: pd.DataFrame, matrix: Matrix, sampling: Sampling, choice: Choice, seed: int
) -> CalibratedRanker:
    """The chosen ranker on sampled rows, with its prior correction; no calibrators yet."""
    ranker = choice.build(seed).fit(matrix, rows["label"].to_numpy(bool))
    return CalibratedRanker(ranker, factor=sampling.factor)


def evaluation_model(data: TrainingData, choice: Choice, seed: int) -> CalibratedRanker:
    """Fitted on train, calibrated on calibrate: the model whose certify and test rows are looked at."""
    model = fit_ranker(*data.take(data.rows["fit"].to_numpy(bool)), data.fit_sampling, choice, seed)
    rows, matrix = period(data, "calibrate")
    raw, labels = model.raw_score(matrix), rows["label"].to_numpy(bool)
    policies = data.policies
    model.set_params(calibrators=_calibrators(rows, raw, labels, None, policies), primary=policies[0])
    return model


def judge_period(model: CalibratedRanker, data: TrainingData, name: str) -> dict[str, Judged]:
    """The judged rows of one period with what the model says, by policy."""
    rows, matrix = period(data, name)
    raw = model.raw_score(matrix)
    judged = {}
    for policy in data.policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        labels = rows["label"].to_numpy(bool)[mine]
        judged[policy] = Judged(rows["user_id"][mine], labels, raw[mine], model.calibrate(raw[mine], policy))
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
    raw, model = _cross_fitted_and_refitted(data, rows, matrix, choice, goal.seed)
    labels, policies = rows["label"].to_numpy(bool), data.policies
    weights = data.refit_sampling.weights(labels)
    model.set_params(calibrators=_calibrators(rows, raw, labels, weights, policies), primary=policies[0])
    needed, own = needed_within(raw, time_blocks(rows, BLOCKS), weights), model.raw_score(matrix)
    buyers, thresholds = {}, {}
    for policy in policies:
        mine = np.flatnonzero(rows["policy"].eq(policy))
        scale = model.calibrate(own[mine], policy), weights[mine]
        chosen = mine[one_per_buyer(rows["user_id"].iloc[mine], labels[mine], goal.seed)]
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


def _cross_fitted_and_refitted(
    data: TrainingData, rows: pd.DataFrame, matrix: Matrix, choice: Choice, seed: int
) -> tuple[Floats, CalibratedRanker]:
    """Prior-corrected scores by rankers that saw neither a row's block nor what is near; and the refit."""
    block, labels, sampling = time_blocks(rows, BLOCKS), rows["label"].to_numpy(bool), data.refit_sampling
    raw = np.zeros(len(rows))

    def score_block(number: int) -> None:
        inside = block == number
        outside = _away_from(rows, inside, data.question.horizon)
        ranker = choice.for_cross_fit().build(seed).fit(matrix[outside], labels[outside])
        raw[inside] = CalibratedRanker(ranker, factor=sampling.factor).raw_score(matrix[inside])

    with ThreadPoolExecutor(max_workers=choice.fits_at_once) as pool:
        refitted = pool.submit(fit_ranker, rows, matrix, sampling, choice, seed)
        list(pool.map(score_block, range(BLOCKS)))
    return raw, refitted.result()


def _away_from(rows: pd.DataFrame, block: Mask, horizon: timedelta) -> Mask:
    """Rows outside a block of `time_blocks`; where blocks are periods, without the embargo around it."""
    if not enough_days(rows, BLOCKS):
        return ~block
    times = rows["as_of"]
    return before(times, times[block].min(), horizon) | after(times, times[block].max(), horizon)


def _calibrators(
    rows: pd.DataFrame, raw: Floats, labels: Mask, weights: Floats | None, policies: tuple[str, ...]
) -> dict[str, Calibrator]:
    """One calibrator a policy; a policy without buyers (or only buyers) borrows that of all rows."""
    fitted = {}
    for policy in policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        if labels[mine].all() or not labels[mine].any():
            mine = np.ones(len(rows), bool)
        fitted[policy] = fit_calibrator(raw[mine], labels[mine], None if weights is None else weights[mine])
    return fitted
