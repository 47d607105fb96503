"""Fit the rankers and calibrators of every cut-off policy on rows and features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.errors import DataError
from retail_core.model.calibration import Calibrator, fit_calibrator
from retail_core.model.dataset import TrainingData, policies_of
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families import Ranker, RankerConfig
from retail_core.model.sampling import Sampling
from retail_core.model.splits import cutoffs_after, cutoffs_before, has_enough_days, time_blocks

CROSS_FIT_BLOCKS = 3

MIN_OWN_BUYERS = 30
"""Rows of buyers, and of non-buyers, that a policy needs to learn from its own rows alone."""


@dataclass(frozen=True)
class FitPlan:
    """Settings shared by all fits of one training, for the evaluated and the served model.

    Attributes:
        config: family and parameters, for every policy.
        seed: of the fits.
        policies: policies that get a ranker, the primary one first.
        own_rankers: policies that learn from their own rows; the others learn from the rows of all policies.
    """

    config: RankerConfig
    seed: int
    policies: tuple[str, ...]
    own_rankers: frozenset[str]


def make_fit_plan(data: TrainingData, config: RankerConfig, seed: int) -> FitPlan:
    """The plan of a training; the rows of the train period decide which policies learn from their own."""
    return FitPlan(config, seed, data.policies, policies_with_own_ranker(data.rows[data.rows["fit"]]))


def policies_with_own_ranker(rows: pd.DataFrame) -> frozenset[str]:
    """Policies with at least `MIN_OWN_BUYERS` rows of buyers, and of non-buyers."""
    counts = rows.groupby(["policy", "label"]).size().unstack(fill_value=0)
    smaller_class = counts.reindex(columns=[False, True], fill_value=0).min(axis=1)
    return frozenset(counts.index[smaller_class >= MIN_OWN_BUYERS])


def fit_ranker(
    rows: pd.DataFrame, matrix: Float32Array, sampling: Sampling, plan: FitPlan
) -> CalibratedRanker:
    """A ranker for each policy with the prior correction; without calibrators.

    Args:
        rows: sampled rows, with `policy` and `label`.
        matrix: features of the rows.
        sampling: rates at which the rows were sampled.
        plan: configuration and policies.

    Raises:
        DataError: all rows have the same label.
    """
    labels = rows["label"].to_numpy(bool)
    if not _has_both_classes(labels):
        raise DataError(
            f"All {len(rows)} rows to fit on have the same answer.",
            remedy="ingest a longer log, in which some users buy and others do not.",
        )
    rankers: dict[str, Ranker] = {}
    for policy in plan.policies:
        of_policy = rows["policy"].eq(policy).to_numpy(bool)
        if policy in plan.own_rankers and _has_both_classes(labels[of_policy]):
            rankers[policy] = plan.config.build(plan.seed).fit(matrix[of_policy], labels[of_policy])
    if without_ranker := [policy for policy in plan.policies if policy not in rankers]:
        rankers |= dict.fromkeys(without_ranker, plan.config.build(plan.seed).fit(matrix, labels))
    return CalibratedRanker(rankers, factor=sampling.factor, primary=plan.policies[0])


def _has_both_classes(labels: BoolArray) -> bool:
    return bool(labels.any() and not labels.all())


def raw_scores(model: CalibratedRanker, rows: pd.DataFrame, matrix: Float32Array) -> FloatArray:
    """Prior-corrected scores of the rows, each by its policy's ranker; comparable within a policy only."""
    raw = np.empty(len(rows))
    for policy in policies_of(rows):
        of_policy = rows["policy"].eq(policy).to_numpy(bool)
        raw[of_policy] = model.raw_score(matrix[of_policy], policy)
    return raw


def cross_fit_and_refit(
    data: TrainingData, rows: pd.DataFrame, matrix: Float32Array, plan: FitPlan
) -> tuple[FloatArray, CalibratedRanker]:
    """Cross-fitted scores of the rows, and the model fitted on all of them.

    A row's score is prior-corrected and comes from rankers that were fitted neither on its block nor on the
    embargo around it.
    """
    block, sampling, raw = time_blocks(rows, CROSS_FIT_BLOCKS), data.refit_sampling, np.zeros(len(rows))
    cross_fit_plan = replace(plan, config=plan.config.for_cross_fit())

    def score_block(number: int) -> None:
        inside = block == number
        outside = _outside_embargo(rows, inside, data.task.horizon)
        model = fit_ranker(rows[outside], matrix[outside], sampling, cross_fit_plan)
        raw[inside] = raw_scores(model, rows[inside], matrix[inside])

    with ThreadPoolExecutor(max_workers=plan.config.parallel_fits) as pool:
        refitted = pool.submit(fit_ranker, rows, matrix, sampling, plan)
        list(pool.map(score_block, range(CROSS_FIT_BLOCKS)))
    return raw, refitted.result()


def _outside_embargo(rows: pd.DataFrame, block: BoolArray, horizon: timedelta) -> BoolArray:
    """Rows outside a block of `time_blocks` and, where blocks are periods, outside the embargo around it."""
    if not has_enough_days(rows, CROSS_FIT_BLOCKS):
        return ~block
    times = rows["as_of"]
    before = cutoffs_before(times, times[block].min(), horizon)
    return before | cutoffs_after(times, times[block].max(), horizon)


def fit_calibrators(
    rows: pd.DataFrame,
    raw: FloatArray,
    labels: BoolArray,
    weights: FloatArray | None,
    policies: tuple[str, ...],
) -> dict[str, Calibrator]:
    """One calibrator per policy; a policy with one class only is calibrated on all rows."""
    calibrators = {}
    for policy in policies:
        mask = rows["policy"].eq(policy).to_numpy(bool)
        if not _has_both_classes(labels[mask]):
            mask = np.ones(len(rows), bool)
        mask_weights = None if weights is None else weights[mask]
        calibrators[policy] = fit_calibrator(raw[mask], labels[mask], mask_weights)
    return calibrators
