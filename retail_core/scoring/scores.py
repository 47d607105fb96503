"""Purchase probabilities of all eligible users at one cut-off: predict, rank, store, write to CSV."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.csv_export import require_parent_folder, write_csv
from retail_core.errors import DataError, InputError
from retail_core.features.batch.batch_interpreter import feature_batches
from retail_core.features.cutoff_context import ContextByDay
from retail_core.features.cutoffs.policies import (
    daily_pairs,
    describe_population,
    first_visit_pairs,
    policies_for,
)
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.registry.champion import load_champion
from retail_core.schemas import TIME_DTYPE, Pairs, Prediction
from retail_core.scoring.prediction_storage import store_predictions
from retail_core.scoring.reason_columns import MOST_EXPLAINED, features_from_lake, with_reasons
from retail_core.scoring.shop_context import compute_context, store_context
from retail_core.settings import variable_name
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
) -> ScoreReport:
    """Score every eligible user with the model in production.

    Args:
        workspace: its lake is read in its present state.
        as_of: the cut-off, aware.
        out: CSV to write, sorted by rank, safe to open in a spreadsheet (see `csv_export.write_csv`).
        keep: whether to store the predictions in MongoDB and the lake, where they replace those of the same
            cut-off and version, and the context features of the day.
        reasons: number of users at the top of the CSV with a text in the column `reasons`.

    Raises:
        DataError: no model is in production, or no user is eligible.
        InputError: `out` cannot be written, or the settings ask for another prediction task.
    """
    started = time.perf_counter()
    if out is not None:
        require_parent_folder(out)
    instant = to_utc_ms(as_of)
    served, lake = load_scoring_model(workspace), workspace.lake.snapshot()
    spec = served.spec
    context = compute_context(lake, spec.feature_set.task, instant, workspace.engine)
    predictions = predict_eligible(lake, served, instant, workspace.engine, context=context)
    if keep:
        store_context(workspace.store, context, spec.feature_set.task, instant)
        store_predictions(workspace.store, predictions, instant, spec.version)
    if out is not None:
        scores = predictions[list(CSV_COLUMNS)]
        features_of = features_from_lake(lake, served, workspace.engine, _context_of(spec, context))
        write_csv(with_reasons(served, scores, features_of, reasons), out)
    return ScoreReport(
        users=len(predictions),
        model_version=spec.version,
        as_of=instant,
        seconds=round(time.perf_counter() - started, 3),
        file=out,
        policy=spec.primary,
        population=describe_population(spec.feature_set.task, spec.primary, iso(instant)),
        base_rate=spec.base_rate,
        expected_buyers=float(predictions["probability"].sum()),
        will_purchase=int(predictions["will_purchase"].sum()),
        contact=int(predictions["contact"].sum()),
        statement=workspace.describe_window(instant, spec.feature_set.task, spec.primary),
    )


def predict_eligible(
    lake: LakeReader,
    served: ServedModel,
    as_of: datetime,
    engine: EngineOptions,
    *,
    context: ContextByDay | None = None,
) -> DataFrame[Prediction]:
    """Predictions of every eligible user at `as_of`, in order of rank.

    The features of some users at a time are in memory, and the events are read once.

    Args:
        lake: the events.
        served: the model.
        as_of: the cut-off, UTC.
        engine: runs the queries.
        context: context features of the day of `as_of`; None computes them from the lake.

    Raises:
        DataError: no user is eligible.
    """
    pairs, spec = eligible_pairs(lake, served.spec, as_of, engine), served.spec
    batches = feature_batches(
        lake, pairs, spec.feature_set, engine=engine, context=_context_of(spec, context)
    )
    return rank_predictions([predict_features(served, batch) for batch in batches])


def _context_of(spec: ModelSpec, context: ContextByDay | None) -> ContextByDay | None:
    """The context of one day where all pairs are of that day; the cut-offs of first visits are not."""
    return None if spec.primary == "first-visit" else context


def eligible_pairs(
    lake: LakeReader, spec: ModelSpec, as_of: datetime, engine: EngineOptions = DUCKDB
) -> DataFrame[Pairs]:
    """The (user, cut-off) pairs to score at `as_of` by the model's primary policy, ordered by user_id.

    daily: every user with an event in the eligibility window, at `as_of`. first-visit: every user whose own
    cut-off (first visit + 1 s) is not after `as_of`, at that cut-off, since the model was trained on such
    rows.

    Raises:
        DataError: there is no such user.
    """
    task = spec.feature_set.task
    if spec.primary == "first-visit":
        first_visits = first_visit_pairs(lake, as_of, engine)
        pairs = first_visits[first_visits["as_of"] <= as_of]
        message = f"No user's first visit lies before {iso(as_of)}."
    else:
        pairs = daily_pairs(lake, task, [as_of], engine)
        message = f"Nobody was active in the {task.eligible_days} days before {iso(as_of)}."
    if pairs.empty:
        raise DataError(message, remedy="ingest newer events, or choose an --as-of within the data.")
    ordered = pairs.sort_values("user_id", ignore_index=True)
    return Pairs.validate(ordered.assign(policy=pd.Series(spec.primary, index=ordered.index, dtype="str")))


def predict_features(
    served: ServedModel,
    features: pd.DataFrame,
    policies: pd.Series[str] | None = None,
    *,
    complete: bool = True,
) -> pd.DataFrame:
    """Predictions for rows with `user_id`, `as_of` and features: the columns of `Prediction` except rank.

    Args:
        served: the model.
        features: one row per user and cut-off.
        policies: the cut-off policy of each row, with the index of `features`; by default `policies_for`.
        complete: whether every feature column is required; otherwise a missing one is null.

    Raises:
        InputError: a required feature column is missing.
    """
    if policies is None:
        policies = policies_for(features, served.spec.policies)
    names = policies.unique()
    groups = [(names[0], features)] if len(names) == 1 else features.groupby(policies)
    scores = pd.concat([served.predict(rows, policy, complete=complete) for policy, rows in groups])
    return pd.DataFrame(
        {
            "user_id": features["user_id"].astype("str"),
            "as_of": features["as_of"].astype(TIME_DTYPE),
            "model_version": pd.Series(served.spec.version, index=features.index, dtype="str"),
            "policy": policies.astype("str"),
            **{name: scores[name] for name in ("probability", "raw_score", "will_purchase", "contact")},
        }
    )


def rank_predictions(chunks: list[pd.DataFrame]) -> DataFrame[Prediction]:
    """One frame in order of rank: by probability, ties by raw score, then by user_id."""
    predictions = pd.concat(chunks, ignore_index=True).sort_values(
        ["probability", "raw_score", "user_id"], ascending=[False, False, True], ignore_index=True
    )
    return Prediction.validate(predictions.assign(rank=np.arange(1, len(predictions) + 1)))
