"""Rankers and calibrators of every cut-off policy, fitted on rows and features."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pandas as pd

from retail_core.model.calibration import Calibrator, fit_calibrator
from retail_core.model.dataset import TrainingData, policies_of
from retail_core.model.estimator import CalibratedRanker, Matrix
from retail_core.model.families import Choice
from retail_core.model.sampling import Floats, Sampling
from retail_core.model.splits import Mask, after, before, enough_days, time_blocks

BLOCKS = 3

OWN_BUYERS = 30
"""Rows of buyers (and of others) from which on a policy learns from its own rows alone."""


def fit_ranker(
    rows: pd.DataFrame, matrix: Matrix, sampling: Sampling, choice: Choice, seed: int
) -> CalibratedRanker:
    """The chosen ranker for each policy of the sampled rows, with the prior correction; no calibrators yet.

    A policy with fewer than `OWN_BUYERS` learns from the rows of all policies.
    """
    labels, rankers = rows["label"].to_numpy(bool), {}
    for policy in policies_of(rows):
        mine = rows["policy"].eq(policy).to_numpy(bool)
        if not OWN_BUYERS <= labels[mine].sum() <= mine.sum() - OWN_BUYERS:
            mine = np.ones(len(rows), bool)
        rankers[policy] = choice.build(seed).fit(matrix[mine], labels[mine])
    return CalibratedRanker(rankers, factor=sampling.factor, primary=next(iter(rankers)))


def raw_scores(model: CalibratedRanker, rows: pd.DataFrame, matrix: Matrix) -> Floats:
    """What each row's own ranker says of it; compare scores of one policy only."""
    raw = np.empty(len(rows))
    for policy in policies_of(rows):
        mine = rows["policy"].eq(policy).to_numpy(bool)
        raw[mine] = model.raw_score(matrix[mine], policy)
    return raw


def cross_fitted_and_refitted(
    data: TrainingData, rows: pd.DataFrame, matrix: Matrix, choice: Choice, seed: int
) -> tuple[Floats, CalibratedRanker]:
    """Prior-corrected scores by rankers that saw neither a row's block nor what is near; and the refit."""
    block, sampling, raw = time_blocks(rows, BLOCKS), data.refit_sampling, np.zeros(len(rows))

    def score_block(number: int) -> None:
        inside = block == number
        outside = _away_from(rows, inside, data.question.horizon)
        model = fit_ranker(rows[outside], matrix[outside], sampling, choice.for_cross_fit(), seed)
        raw[inside] = raw_scores(model, rows[inside], matrix[inside])

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


def calibrators_of(
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
