"""Purchase probabilities of the users of a list: who is eligible, their features, the model, the ranks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError
from retail_core.features.batch.batch_interpreter import feature_batches
from retail_core.features.cutoff_context import ContextByDay
from retail_core.features.cutoffs.policies import daily_pairs, first_visit_pairs, policies_for
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.schemas import TIME_DTYPE, Pairs, Prediction
from retail_core.times import iso


def predict_eligible(
    lake: LakeReader,
    served: ServedModel,
    as_of: datetime,
    engine: EngineOptions,
    *,
    context: ContextByDay | None = None,
    on_features: Callable[[pd.DataFrame], None] | None = None,
) -> DataFrame[Prediction]:
    """Predictions of every eligible user at `as_of`, in order of rank.

    The features of some users at a time are in memory, and the events are read once.

    Args:
        lake: the events.
        served: the model.
        as_of: the cut-off, UTC.
        engine: runs the queries.
        context: context features of the day of `as_of`; None computes them from the lake.
        on_features: receives each batch of features after it was scored.

    Raises:
        DataError: no user is eligible.
    """
    pairs, spec = eligible_pairs(lake, served.spec, as_of, engine), served.spec
    chunks = []
    for batch in feature_batches(
        lake, pairs, spec.feature_set, engine=engine, context=context_of(spec, context)
    ):
        chunks.append(predict_features(served, batch))
        if on_features is not None:
            on_features(batch)
    return rank_predictions(chunks)


def context_of(spec: ModelSpec, context: ContextByDay | None) -> ContextByDay | None:
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
