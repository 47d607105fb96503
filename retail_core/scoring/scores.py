"""Purchase probabilities of all eligible users at one cut-off: predict, rank, store, write to CSV."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from retail_core.csv_export import require_parent_folder, write_csv
from retail_core.errors import InputError
from retail_core.features.cutoffs.policies import describe_population
from retail_core.model.evaluation.expected_quality import estimate_quality
from retail_core.model.served_model import ServedModel
from retail_core.registry.champion import load_champion
from retail_core.scoring.list_checks import check_list
from retail_core.scoring.list_predictions import context_of, predict_eligible
from retail_core.scoring.prediction_storage import store_predictions
from retail_core.scoring.reason_columns import MOST_EXPLAINED, features_from_lake, with_reasons
from retail_core.scoring.shadow_scores import ShadowScorer
from retail_core.scoring.shop_context import compute_context, store_context
from retail_core.settings_files import variable_name
from retail_core.store.mongo.list_estimates import store_estimate
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import Workspace

# The look-back is left out: it changes how a model predicts, not what.
_TASK_SETTINGS = frozenset({"horizon_hours", "eligible_days", "timezone"})

CSV_COLUMNS = (
    "user_id",
    "probability",
    "rank",
    "will_purchase",
    "contact",
    "raw_score",
    "as_of",
    "policy",
    "model_version",
)


@dataclass(frozen=True)
class ScoreReport:
    """Result of a scoring run.

    Attributes:
        users: number of eligible users, all of whom were scored.
        model_version: version of the model.
        as_of: the cut-off.
        seconds: duration of the run.
        file: the CSV, if one was written.
        policy: the cut-off policy.
        population: description of the eligible users.
        base_rate: share of buyers among the model's test rows, for comparison with `expected_buyers / users`.
        expected_buyers: sum of the probabilities.
        will_purchase: number of users at or above the best-F1 threshold.
        contact: number of users at or above the contact threshold.
        statement: when the predicted purchases would happen and where the data ends, in words.
        expected_buyers_interval: 95 % interval of the number of buyers, if the probabilities are calibrated.
        expected_precision: share of buyers expected among `will_purchase`; None without such users.
        expected_recall: share of the buyers expected to be among `will_purchase`.
        expected_f1: harmonic mean of both.
        expected_ap: average precision expected of the order by probability.
        shadows: versions that scored the same users silently.
        warnings: what is wrong with the log or the list, in one sentence each; see `list_checks`.
    """

    users: int
    model_version: str
    as_of: datetime
    seconds: float
    file: Path | None
    policy: str
    population: str
    base_rate: float
    expected_buyers: float
    will_purchase: int
    contact: int
    statement: str
    expected_buyers_interval: tuple[int, int]
    expected_precision: float | None
    expected_recall: float | None
    expected_f1: float | None
    expected_ap: float | None
    shadows: list[str]
    warnings: tuple[str, ...] = ()


def load_scoring_model(workspace: Workspace) -> ServedModel:
    """The model in production, if it predicts what the settings ask for.

    Raises:
        DataError: no model is in production.
        InputError: a setting that was set explicitly differs from the prediction task of the model.
    """
    served, settings = load_champion(workspace.store), workspace.settings
    task = served.spec.feature_set.task
    for name in sorted(_TASK_SETTINGS & settings.model_fields_set):
        requested, trained = getattr(settings, name), getattr(task, name)
        if requested is not None and requested != trained:
            raise InputError(
                f"Model version {served.spec.version} was trained with {name} = {trained}, and the settings "
                f"ask for {requested}.",
                remedy=f"unset {variable_name(name)}, set it to {trained}, or run `retail train`.",
            )
    return served


def score(
    workspace: Workspace,
    *,
    as_of: datetime,
    out: Path | None,
    keep: bool = True,
    reasons: int = MOST_EXPLAINED,
    now: datetime | None = None,
) -> ScoreReport:
    """Score every eligible user with the model in production.

    Args:
        workspace: its lake is read in its present state.
        as_of: the cut-off, aware.
        out: CSV to write, sorted by rank, safe to open in a spreadsheet (see `csv_export.write_csv`).
        keep: whether to store the predictions in MongoDB and the lake, where they replace those of the same
            cut-off and version, and the context features of the day; and to score with the shadows.
        reasons: number of users at the top of the CSV with a text in the column `reasons`.
        now: instant that the log should reach, aware; None: `as_of`.

    Raises:
        DataError: no model is in production, no user is eligible, or the list is refused (`check_list`).
        InputError: `out` cannot be written, or the settings ask for another prediction task.
    """
    started = time.perf_counter()
    if out is not None:
        require_parent_folder(out)
    instant = to_utc_ms(as_of)
    served, lake = load_scoring_model(workspace), workspace.lake.snapshot()
    spec = served.spec
    context = compute_context(lake, spec.feature_set.task, instant, workspace.engine)
    shadows = ShadowScorer.of_champion(workspace, spec) if keep else ShadowScorer(workspace, spec)
    predictions = predict_eligible(
        lake, served, instant, workspace.engine, context=context, on_features=shadows.score
    )
    expected = estimate_quality(
        predictions["probability"].to_numpy(float), predictions["will_purchase"].to_numpy(bool)
    )
    warnings = check_list(workspace, spec, instant, expected.expected_buyers, now)
    if keep:
        store_context(workspace.store, context, spec.feature_set.task, instant)
        store_predictions(workspace.store, predictions, instant, spec.version)
        estimate = {**expected.to_dict(), "warnings": list(warnings)}
        store_estimate(workspace.store, instant, spec.version, estimate)
    if out is not None:
        scores = predictions[list(CSV_COLUMNS)]
        features_of = features_from_lake(lake, served, workspace.engine, context_of(spec, context))
        write_csv(with_reasons(served, scores, features_of, reasons), out)
    shadow_versions = shadows.store(lake, instant)
    return ScoreReport(
        users=len(predictions),
        model_version=spec.version,
        as_of=instant,
        seconds=round(time.perf_counter() - started, 3),
        file=out,
        policy=spec.primary,
        population=describe_population(spec.feature_set.task, spec.primary, iso(instant)),
        base_rate=spec.base_rate,
        expected_buyers=expected.expected_buyers,
        will_purchase=int(predictions["will_purchase"].sum()),
        contact=int(predictions["contact"].sum()),
        statement=workspace.describe_window(instant, spec.feature_set.task, spec.primary),
        expected_buyers_interval=(expected.expected_buyers_low, expected.expected_buyers_high),
        expected_precision=expected.expected_precision,
        expected_recall=expected.expected_recall,
        expected_f1=expected.expected_f1,
        expected_ap=expected.expected_ap,
        shadows=shadow_versions,
        warnings=warnings,
    )
