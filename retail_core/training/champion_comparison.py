"""Challenger and champion scored on the same rows, as fairly as the data allow."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.errors import DataError, IntegrityError
from retail_core.model.dataset import TrainingData, compute_feature_matrix
from retail_core.model.evaluation.metrics import ap_difference
from retail_core.model.families import RankerConfig
from retail_core.model.fitting import fit_ranker, make_fit_plan
from retail_core.model.procedure import period_rows
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.model.splits import cutoffs_before
from retail_core.registry import versions as registry
from retail_core.registry.promotion import PromotionDecision
from retail_core.registry.versions import load_version
from retail_core.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairedScores:
    """The same rows scored by both.

    Attributes:
        users: whose rows.
        labels: whether each bought.
        champion: scores of the champion as it is served.
        challenger: scores of the challenger's procedure, fitted on rows before these.
        later: whether the champion's training data end before these rows begin; where they do not, it has
            seen their answers, and a challenger that wins nevertheless has won the harder contest.
        champion_version: registry version.
    """

    users: pd.Series
    labels: BoolArray
    champion: FloatArray
    challenger: FloatArray
    later: bool
    champion_version: str


def compare_with_champion(
    workspace: Workspace, data: TrainingData, choice: RankerConfig
) -> PairedScores | PromotionDecision | None:
    """Score both on test rows; a decision where the two cannot be compared, None without a champion.

    Rows at or after the end of the champion's training data are used alone where they have enough
    buyers. The challenger is the same procedure refitted on all rows before the test period: so it is
    as fresh as it would have been served then.
    """
    settings = workspace.settings
    version = registry.production_version(settings)
    if version is None:
        return None
    try:
        champion = load_version(settings, version)
    except IntegrityError as error:
        log.warning("The champion cannot take part: %s", error)
        return PromotionDecision(
            True, f"promoted: the champion cannot be served any more: {error.message}", {}
        )
    if apart := incomparable_reason(champion.spec, data):
        return PromotionDecision(False, f"kept the champion: {apart}", {"champion": version})
    rows, matrix = _primary(data)
    later = _later(rows, champion, settings.min_matured_buyers)
    chosen = np.ones(len(rows), bool) if later is None else later
    rows, matrix = rows[chosen].reset_index(drop=True), matrix[chosen]
    try:
        challenger = _challenger_scores(data, rows, matrix, choice, settings.seed)
    except DataError as error:
        told = (
            f"kept the champion: the challenger cannot be fitted on what lies before the test rows: {error}"
        )
        return PromotionDecision(False, told, {"champion": version})
    return PairedScores(
        users=rows["user_id"],
        labels=rows["label"].to_numpy(bool),
        champion=_champion_scores(workspace, champion, data, rows, matrix),
        challenger=challenger,
        later=later is not None,
        champion_version=version,
    )


def incomparable_reason(champion: ModelSpec, data: TrainingData) -> str:
    """Why the challenger cannot take the champion's place whatever it scores; empty where it can.

    A look-back of another length is only another way to answer the same question.
    """
    theirs, ours = asdict(champion.feature_set.task), asdict(data.task)
    differ = [name for name in ours if name != "lookback_days" and theirs[name] != ours[name]]
    by_hand = f"`retail models promote` puts it in the place of version {champion.version} all the same"
    if differ:
        told = ", ".join(f"{name} {ours[name]} instead of {theirs[name]}" for name in differ)
        return f"it answers another question: {told}; {by_hand}"
    missing = [policy for policy in champion.policies if policy not in data.policies]
    if missing:
        return f"it has no cut-off policy {', '.join(missing)}, which the champion answers; {by_hand}"
    return ""


def _primary(data: TrainingData) -> tuple[pd.DataFrame, Float32Array]:
    rows, matrix = period_rows(data, "test")
    mine = rows["policy"].eq(data.policies[0]).to_numpy(bool)
    return rows[mine], matrix[mine]


def _later(rows: pd.DataFrame, champion: ServedModel, least_buyers: int) -> BoolArray | None:
    """Rows the champion cannot have been trained on; None where too few of them bought."""
    later = (rows["as_of"] >= pd.Timestamp(champion.spec.data["as_of"])).to_numpy(bool)
    return later if int((rows["label"].to_numpy(bool) & later).sum()) >= least_buyers else None


def _champion_scores(
    workspace: Workspace, champion: ServedModel, data: TrainingData, rows: pd.DataFrame, matrix: Float32Array
) -> FloatArray:
    wanted, have = champion.spec.feature_set, data.feature_set
    policy = champion.policy(data.policies[0])
    if wanted.task == have.task and set(wanted.columns) <= set(have.columns):
        places = [have.columns.index(name) for name in wanted.columns]
        return champion.estimator.raw_score(matrix[:, places], policy)
    theirs = compute_feature_matrix(workspace.lake, rows, wanted, workspace.engine)
    return champion.estimator.raw_score(theirs, policy)


def _challenger_scores(
    data: TrainingData, rows: pd.DataFrame, matrix: Float32Array, choice: RankerConfig, seed: int
) -> FloatArray:
    """Scores of the same procedure fitted on every refit row before the first of `rows`.

    On a log too short for that, where test rows share their days with others, no row of a test user is used.
    """
    every = data.rows
    past = cutoffs_before(every["as_of"], rows["as_of"].min(), data.task.horizon)
    fresh = every["refit"].to_numpy(bool) & past
    if not every["label"][fresh].any():
        fresh = every["refit"].to_numpy(bool) & ~every["user_id"].isin(rows["user_id"]).to_numpy(bool)
    recipe = replace(make_fit_plan(data, choice, seed), policies=data.policies[:1])
    return fit_ranker(*data.take(fresh), data.refit_sampling, recipe).raw_score(matrix)


def decide_promotion(
    contest: PairedScores | PromotionDecision | None, *, leaky: bool, seed: int
) -> PromotionDecision:
    """Decide on a challenger.

    Args:
        contest: None where there is no champion to beat; a decision where the two cannot be compared.
        leaky: whether the challenger was allowed a leaking column; then it is refused, whatever it scores.
        seed: of the bootstrap over users.
    """
    if leaky:
        return PromotionDecision(False, "refused: it was trained with a column that leaks the answer", {})
    if contest is None:
        return PromotionDecision(True, "promoted: there is no champion", {"champion": None})
    if isinstance(contest, PromotionDecision):
        return contest
    value, low, high = ap_difference(
        contest.users, contest.labels, contest.challenger, contest.champion, seed
    )
    evidence = {
        "champion": contest.champion_version,
        "ap_difference": value,
        "interval": [low, high],
        "rows": len(contest.labels),
        "positives": int(contest.labels.sum()),
        "rows_later_than_champion": contest.later,
    }
    told = f"AP {value:+.4f} (95 % {low:+.4f} to {high:+.4f}) against version {contest.champion_version}"
    told += f" on the same {len(contest.labels):,} rows, base rate {contest.labels.mean():.2%}"
    if not contest.later:
        told += "; the champion was trained on these rows"
    if low > 0:
        return PromotionDecision(True, f"promoted: {told}", evidence)
    return PromotionDecision(False, f"kept the champion: {told}", evidence)
