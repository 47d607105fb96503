"""Challenger and champion scored on the same rows, as fairly as the data allow."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from retail_core.errors import IntegrityError
from retail_core.features.engine import EngineOptions
from retail_core.lifecycle.promotion import Contest
from retail_core.model import registry
from retail_core.model.dataset import TrainingData, features
from retail_core.model.estimator import Matrix
from retail_core.model.families import Choice
from retail_core.model.procedure import fit_ranker, period
from retail_core.model.runtime import ServedModel, load_version
from retail_core.model.sampling import Floats
from retail_core.model.splits import Mask, before
from retail_core.settings import Settings
from retail_core.store.lake import Lake

log = logging.getLogger(__name__)


def arrange(lake: Lake, settings: Settings, data: TrainingData, choice: Choice) -> tuple[Contest | None, str]:
    """Score both on test rows; (None, why) where there is no champion that can be scored.

    Rows at or after the end of the champion's training data are used alone where they have enough
    buyers. The challenger is the same procedure refitted on all rows before the test period: so it is
    as fresh as it would have been served then.
    """
    version = registry.production_version(settings)
    if version is None:
        return None, ""
    try:
        champion = load_version(settings, version)
    except IntegrityError as error:
        log.warning("The champion cannot take part: %s", error)
        return None, f"promoted: the champion cannot be served any more: {error.message}"
    rows, matrix = _primary(data)
    later = _later(rows, champion, settings.min_matured_buyers)
    chosen = np.ones(len(rows), bool) if later is None else later
    rows, matrix = rows[chosen].reset_index(drop=True), matrix[chosen]
    contest = Contest(
        users=rows["user_id"],
        labels=rows["label"].to_numpy(bool),
        champion=_champion_scores(lake, champion, data, rows, matrix, settings),
        challenger=_challenger_scores(data, rows, matrix, choice, settings.seed),
        later=later is not None,
        champion_version=version,
    )
    return contest, ""


def _primary(data: TrainingData) -> tuple[pd.DataFrame, Matrix]:
    rows, matrix = period(data, "test")
    policy = "daily" if rows["policy"].eq("daily").any() else str(rows["policy"].iloc[0])
    mine = rows["policy"].eq(policy).to_numpy(bool)
    return rows[mine], matrix[mine]


def _later(rows: pd.DataFrame, champion: ServedModel, least_buyers: int) -> Mask | None:
    """Rows the champion cannot have been trained on; None where too few of them bought."""
    later = (rows["as_of"] >= pd.Timestamp(champion.spec.data["as_of"])).to_numpy(bool)
    return later if int((rows["label"].to_numpy(bool) & later).sum()) >= least_buyers else None


def _champion_scores(
    lake: Lake,
    champion: ServedModel,
    data: TrainingData,
    rows: pd.DataFrame,
    matrix: Matrix,
    settings: Settings,
) -> Floats:
    wanted, have = champion.spec.feature_set, data.feature_set
    if wanted.question == have.question and set(wanted.columns) <= set(have.columns):
        places = [have.columns.index(name) for name in wanted.columns]
        return champion.estimator.raw_score(matrix[:, places])
    return champion.estimator.raw_score(features(lake, rows, wanted, EngineOptions.from_settings(settings)))


def _challenger_scores(
    data: TrainingData, rows: pd.DataFrame, matrix: Matrix, choice: Choice, seed: int
) -> Floats:
    """Scores of the same procedure fitted on every refit row before the first of `rows`.

    On a log too short for that, where test rows share their days with others, no row of a test user is used.
    """
    every = data.rows
    past = before(every["as_of"], rows["as_of"].min(), data.question.horizon)
    fresh = every["refit"].to_numpy(bool) & past
    if not every["label"][fresh].any():
        fresh = every["refit"].to_numpy(bool) & ~every["user_id"].isin(rows["user_id"]).to_numpy(bool)
    return fit_ranker(*data.take(fresh), data.refit_sampling, choice, seed).raw_score(matrix)
