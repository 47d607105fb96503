"""Comparison of a challenger with the champion on the same rows, and the promotion decision based on it."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray, IndexArray
from retail_core.errors import DataError, IntegrityError
from retail_core.model.dataset import TrainingData, compute_feature_matrix
from retail_core.model.evaluation.metrics import PairedRankings, ap_difference_within_blocks
from retail_core.model.families import RankerConfig
from retail_core.model.fitting import fit_ranker, make_fit_plan
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.model.splits import cutoffs_before, has_enough_days, time_blocks
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import GateVerdict, PromotionDecision
from retail_core.times import parse_instant
from retail_core.workspace import Workspace

BLOCK_BUYERS, MAX_BLOCKS = 30, 4
"""Fewest buying rows of a block before which the challenger is refitted, and the most blocks."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairedScores:
    """The same rows scored by champion and challenger.

    Attributes:
        users: user id of each row.
        labels: whether the user bought.
        champion: scores of the champion as it is served.
        challenger: scores of the challenger's procedure, fitted on rows before these.
        later: whether the rows are later than the champion's training data. Where they are not, the champion
            was fitted on their labels, which favours the champion.
        champion_version: registry version.
        blocks: block of each row; the challenger's scores of each block are of another fit. One by default.
    """

    users: pd.Series
    labels: BoolArray
    champion: FloatArray
    challenger: FloatArray
    later: bool
    champion_version: str
    blocks: IndexArray | None = None


def compare_with_champion(
    workspace: Workspace, data: TrainingData, config: RankerConfig
) -> PairedScores | PromotionDecision | None:
    """Score rows of the primary policy with both models, see `comparison_rows` and `score_challenger`.

    Returns:
        A decision where the two cannot be compared; None where there is no champion.
    """
    settings = workspace.settings
    version = champion_version(workspace.store)
    if version is None:
        return None
    try:
        champion = registry.load_version(settings, version)
    except IntegrityError as error:
        log.warning("The champion cannot be compared: %s", error)
        return PromotionDecision(
            GateVerdict.PROMOTED, f"promoted: the champion cannot be served any more: {error.message}", {}
        )
    if reason := incomparable_reason(champion.spec, data):
        return PromotionDecision(GateVerdict.REFUSED, f"kept the champion: {reason}", {"champion": version})
    rows, matrix, later = comparison_rows(
        data, parse_instant(champion.spec.data["as_of"]), settings.min_matured_buyers
    )
    try:
        challenger, blocks = score_challenger(data, rows, matrix, config, settings.seed)
    except DataError as error:
        message = f"the challenger cannot be fitted on what lies before these rows: {error}"
        return PromotionDecision(GateVerdict.REFUSED, f"kept the champion: {message}", {"champion": version})
    return PairedScores(
        users=rows["user_id"],
        labels=rows["label"].to_numpy(bool),
        champion=_champion_scores(workspace, champion, data, rows, matrix),
        challenger=challenger,
        later=later,
        champion_version=version,
        blocks=blocks,
    )


def incomparable_reason(champion: ModelSpec, data: TrainingData) -> str:
    """Why the challenger cannot replace the champion whatever its scores are; empty where it can.

    Prediction tasks that differ only in their look-back, or in which quiet days they learned from, are
    comparable: both predict the same labels.
    """
    champion_task, task = asdict(champion.feature_set.task), asdict(data.task)
    differing = champion.feature_set.task.differing_labels(data.task)
    remedy = f"`retail models promote` puts it in the place of version {champion.version} all the same"
    if differing:
        differences = ", ".join(f"{name} {task[name]} instead of {champion_task[name]}" for name in differing)
        return f"it answers another question: {differences}; {remedy}"
    missing_policies = [policy for policy in champion.policies if policy not in data.policies]
    if missing_policies:
        return f"it has no cut-off policy {', '.join(missing_policies)}, which the champion answers; {remedy}"
    return ""


def comparison_rows(
    data: TrainingData, trained_until: datetime, min_buyers: int
) -> tuple[pd.DataFrame, Float32Array, bool]:
    """Rows of the primary policy to compare on, in order of time, with their features.

    Args:
        data: of the challenger's training.
        trained_until: end of the champion's training data.
        min_buyers: fewest buying rows.

    Returns:
        Every evaluated row later than the champion's training data and true, if enough of them bought; else
        the test rows and false. Where the rows are not later, the champion was fitted on their labels.
    """
    rows = data.rows
    primary = rows["policy"].eq(data.policies[0]) & rows["evaluated"]
    later = (primary & (rows["as_of"] >= pd.Timestamp(trained_until))).to_numpy(bool)
    is_later = int((rows["label"].to_numpy(bool) & later).sum()) >= min_buyers
    mask = later if is_later else (primary & rows["period"].eq("test")).to_numpy(bool)
    positions = np.flatnonzero(mask)
    positions = positions[np.argsort(rows["as_of"].to_numpy()[positions], kind="stable")]
    return rows.iloc[positions].reset_index(drop=True), data.matrix[positions], is_later


def _champion_scores(
    workspace: Workspace, champion: ServedModel, data: TrainingData, rows: pd.DataFrame, matrix: Float32Array
) -> FloatArray:
    """The champion's scores, from the challenger's features where they include the champion's."""
    feature_set, available = champion.spec.feature_set, data.feature_set
    policy = champion.policy(data.policies[0])
    if feature_set.task == available.task and set(feature_set.columns) <= set(available.columns):
        indices = [available.columns.index(name) for name in feature_set.columns]
        return champion.estimator.raw_score(matrix[:, indices], policy)
    champion_matrix = compute_feature_matrix(workspace.lake, rows, feature_set, workspace.engine)
    return champion.estimator.raw_score(champion_matrix, policy)


def score_challenger(
    data: TrainingData, rows: pd.DataFrame, matrix: Float32Array, config: RankerConfig, seed: int
) -> tuple[FloatArray, IndexArray]:
    """Scores of the same procedure, refitted before each block of successive days; and the block of each row.

    A single fit before the first row would not have seen anything that the champion has not seen, where the
    rows begin with the end of the champion's training data: a lead that comes from newer data stayed hidden.

    Args:
        data: of the challenger's training.
        rows: rows to score, as of `comparison_rows`.
        matrix: their features.
        config: the selected configuration.
        seed: of the fits.

    Raises:
        DataError: the rows before the first block have one class only.
    """
    count = int(np.clip(rows["label"].sum() // BLOCK_BUYERS, 1, MAX_BLOCKS))
    blocks = time_blocks(rows, count) if has_enough_days(rows, count) else np.zeros(len(rows), np.intp)
    scores: FloatArray = np.empty(len(rows))
    for block in np.unique(blocks):
        of_block = blocks == block
        scores[of_block] = _refitted_scores(data, rows[of_block], matrix[of_block], config, seed)
    return scores, blocks


def _refitted_scores(
    data: TrainingData, rows: pd.DataFrame, matrix: Float32Array, config: RankerConfig, seed: int
) -> FloatArray:
    """Scores of the same procedure fitted on every refit row before the first of `rows`.

    On a log too short for that, where test rows share their days with others, it is fitted on the rows of
    other users.
    """
    candidates = data.rows
    is_refit = candidates["refit"].to_numpy(bool)
    train = is_refit & cutoffs_before(candidates["as_of"], rows["as_of"].min(), data.task.horizon)
    if not candidates["label"][train].any():
        train = is_refit & ~candidates["user_id"].isin(rows["user_id"]).to_numpy(bool)
    plan = replace(make_fit_plan(data, config, seed), policies=data.policies[:1])
    return fit_ranker(*data.take(np.asarray(train)), data.refit_sampling, plan).raw_score(matrix)


def decide_promotion(
    comparison: PairedScores | PromotionDecision | None, *, leaky: bool, seed: int
) -> PromotionDecision:
    """Decide whether a challenger replaces the champion.

    It does if the 95 % interval of the difference in average precision lies above zero. If the interval
    includes zero, or the champion was trained on the rows and is not beaten there, the verdict is `shadow`.

    Args:
        comparison: None where there is no champion; a decision where the two cannot be compared.
        leaky: whether a leaking column was allowed; such a challenger is always refused.
        seed: of the bootstrap over users.
    """
    if leaky:
        return PromotionDecision(
            GateVerdict.REFUSED, "refused: it was trained with a column that leaks the label", {}
        )
    if comparison is None:
        return PromotionDecision(GateVerdict.PROMOTED, "promoted: there is no champion", {"champion": None})
    if isinstance(comparison, PromotionDecision):
        return comparison
    labels, version = comparison.labels, comparison.champion_version
    blocks = np.zeros(len(labels), np.intp) if comparison.blocks is None else comparison.blocks
    pairs = PairedRankings(comparison.users, labels, comparison.challenger, comparison.champion, blocks)
    value, low, high = ap_difference_within_blocks(pairs, seed)
    evidence = {
        "champion": version,
        "ap_difference": value,
        "interval": [low, high],
        "rows": len(labels),
        "positives": int(labels.sum()),
        "rows_later_than_champion": comparison.later,
        "blocks": len(np.unique(blocks)),
    }
    sentence = (
        f"AP {value:+.4f} (95 % {low:+.4f} to {high:+.4f}) against version {version} on the same "
        f"{len(labels):,} rows, base rate {labels.mean():.2%}"
    )
    if not comparison.later:
        sentence += "; the champion was trained on these rows"
    if low > 0:
        return PromotionDecision(GateVerdict.PROMOTED, f"promoted: {sentence}", evidence)
    if high < 0 and comparison.later:
        return PromotionDecision(GateVerdict.REJECTED, f"kept the champion: {sentence}", evidence)
    if comparison.later:
        sentence += "; an interval that includes zero shows neither to be better"
    return PromotionDecision(GateVerdict.SHADOW, f"kept the champion: {sentence}", evidence)
