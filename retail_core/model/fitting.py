"""Rankers and calibrators of every cut-off policy, fitted on rows and features."""

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
"""Rows of buyers, and of others, from which on a policy learns from its own rows alone."""


@dataclass(frozen=True)
class FitPlan:
    """What all fits of one training have in common, so that what is judged is what is served.

    Attributes:
        choice: family and parameters, for every policy.
        seed: of the fits.
        policies: that get a ranker, the primary one first.
        own: those that learn from their own rows; the others learn from the rows of all policies.
    """

    config: RankerConfig
    seed: int
    policies: tuple[str, ...]
    own_rankers: frozenset[str]


def make_fit_plan(data: TrainingData, choice: RankerConfig, seed: int) -> FitPlan:
    """Which policies have enough rows of their own is decided on the train period, once for all fits."""
    return FitPlan(choice, seed, data.policies, policies_with_own_ranker(data.rows[data.rows["fit"]]))


def policies_with_own_ranker(rows: pd.DataFrame) -> frozenset[str]:
    """Policies with at least `OWN_BUYERS` rows of buyers, and of others."""
    counts = rows.groupby(["policy", "label"]).size().unstack(fill_value=0)
    enough = counts.reindex(columns=[False, True], fill_value=0).min(axis=1) >= MIN_OWN_BUYERS
    return frozenset(counts.index[enough])


def fit_ranker(
    rows: pd.DataFrame, matrix: Float32Array, sampling: Sampling, recipe: FitPlan
) -> CalibratedRanker:
    """A ranker for each policy on sampled rows, with the prior correction; no calibrators yet.

    Raises:
        DataError: all rows have the same answer.
    """
    labels = rows["label"].to_numpy(bool)
    if not _has_both_classes(labels):
        raise DataError(
            f"All {len(rows)} rows to fit on have the same answer.",
            remedy="ingest a longer log, in which some users buy and others do not.",
        )
    rankers: dict[str, Ranker] = {}
    for policy in recipe.policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        if policy in recipe.own_rankers and _has_both_classes(labels[mine]):
            rankers[policy] = recipe.config.build(recipe.seed).fit(matrix[mine], labels[mine])
    if borrowing := [policy for policy in recipe.policies if policy not in rankers]:
        rankers |= dict.fromkeys(borrowing, recipe.config.build(recipe.seed).fit(matrix, labels))
    return CalibratedRanker(rankers, factor=sampling.factor, primary=recipe.policies[0])


def _has_both_classes(labels: BoolArray) -> bool:
    """Whether there are buyers and others."""
    return bool(labels.any() and not labels.all())


def raw_scores(model: CalibratedRanker, rows: pd.DataFrame, matrix: Float32Array) -> FloatArray:
    """What each row's own ranker says of it; compare scores of one policy only."""
    raw = np.empty(len(rows))
    for policy in policies_of(rows):
        mine = rows["policy"].eq(policy).to_numpy(bool)
        raw[mine] = model.raw_score(matrix[mine], policy)
    return raw


def cross_fit_and_refit(
    data: TrainingData, rows: pd.DataFrame, matrix: Float32Array, recipe: FitPlan
) -> tuple[FloatArray, CalibratedRanker]:
    """Prior-corrected scores by rankers that saw neither a row's block nor what is near; and the refit."""
    block, sampling, raw = time_blocks(rows, CROSS_FIT_BLOCKS), data.refit_sampling, np.zeros(len(rows))
    light = replace(recipe, config=recipe.config.for_cross_fit())

    def score_block(number: int) -> None:
        inside = block == number
        outside = _outside_embargo(rows, inside, data.task.horizon)
        model = fit_ranker(rows[outside], matrix[outside], sampling, light)
        raw[inside] = raw_scores(model, rows[inside], matrix[inside])

    with ThreadPoolExecutor(max_workers=recipe.config.parallel_fits) as pool:
        refitted = pool.submit(fit_ranker, rows, matrix, sampling, recipe)
        list(pool.map(score_block, range(CROSS_FIT_BLOCKS)))
    return raw, refitted.result()


def _outside_embargo(rows: pd.DataFrame, block: BoolArray, horizon: timedelta) -> BoolArray:
    """Rows outside a block of `time_blocks`; where blocks are periods, without the embargo around it."""
    if not has_enough_days(rows, CROSS_FIT_BLOCKS):
        return ~block
    times = rows["as_of"]
    return cutoffs_before(times, times[block].min(), horizon) | cutoffs_after(
        times, times[block].max(), horizon
    )


def fit_calibrators(
    rows: pd.DataFrame,
    raw: FloatArray,
    labels: BoolArray,
    weights: FloatArray | None,
    policies: tuple[str, ...],
) -> dict[str, Calibrator]:
    """One calibrator a policy; a policy without buyers (or only buyers) borrows that of all rows."""
    fitted = {}
    for policy in policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        if labels[mine].all() or not labels[mine].any():
            mine = np.ones(len(rows), bool)
        fitted[policy] = fit_calibrator(raw[mine], labels[mine], None if weights is None else weights[mine])
    return fitted
