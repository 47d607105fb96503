"""Who will buy within the horizon: every eligible user at one cut-off, by the production model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.csv_export import require_parent_folder, write_csv
from retail_core.errors import DataError
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.policies import (
    daily_pairs,
    first_visit_pairs,
    policies_for,
    policy_population,
)
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.registry.versions import load_champion
from retail_core.schemas import TIME_DTYPE, Pairs, Prediction
from retail_core.scoring.mirror import mirror_predictions
from retail_core.scoring.reason_columns import MOST_EXPLAINED, from_lake, with_reasons
from retail_core.scoring.shop_context import store_context_of_day
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.predictions import replace_predictions
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import Workspace

CHUNK_USERS = 100_000
"""Users whose features are in memory at once: some 100 MB."""

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
    """What was scored. `users` is the number of eligible users; `file` the CSV, where one was asked for.

    `population` says who they are; `base_rate` is the share that bought among the rows the version was tested
    on, which `expected_buyers` of all users may be held against.
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


def score(
    work: Workspace,
    *,
    as_of: datetime,
    out: Path | None,
    keep: bool = True,
    model: ServedModel | None = None,
    reasons: int = MOST_EXPLAINED,
) -> ScoreReport:
    """Score every eligible user at `as_of` (aware) with `model`, by default the champion.

    `keep` stores the predictions and mirrors them to the lake, in place of those of the same cut-off
    and version; `out` is a CSV sorted by rank, safe to open in a spreadsheet (see `csv_out.write_csv`),
    which says of the first `reasons` users why.

    Raises:
        DataError: there is no champion, or nobody is eligible.
        InputError: `out` cannot be written.
    """
    started = time.perf_counter()
    if out is not None:
        require_parent_folder(out)
    instant = to_utc_ms(as_of)
    served, pinned = model or load_champion(work.settings), work.lake.snapshot()
    predictions = predict_eligible(pinned, served, instant, work.engine)
    if keep:
        store_context_of_day(work, served.spec.feature_set.task, instant)
        store_predictions(work.store, predictions, instant, served.spec.version)
    if out is not None:
        scores = predictions[list(CSV_COLUMNS)]
        write_csv(with_reasons(served, scores, from_lake(pinned, served, work.engine), reasons), out)
    return ScoreReport(
        users=len(predictions),
        model_version=served.spec.version,
        as_of=instant,
        seconds=round(time.perf_counter() - started, 3),
        file=out,
        policy=served.spec.primary,
        population=policy_population(served.spec.feature_set.task, served.spec.primary, iso(instant)),
        base_rate=served.spec.base_rate,
        expected_buyers=float(predictions["probability"].sum()),
        will_purchase=int(predictions["will_purchase"].sum()),
        contact=int(predictions["contact"].sum()),
    )


def predict_eligible(
    lake: LakeReader, served: ServedModel, as_of: datetime, engine: EngineOptions
) -> DataFrame[Prediction]:
    """Every eligible user's prediction at `as_of`, in order of rank.

    Raises:
        DataError: nobody is eligible.
    """
    pairs = eligible_pairs(lake, served.spec, as_of, engine)
    return ranked([_predict(lake, served, chunk, engine) for chunk in _chunks(pairs)])


def eligible_pairs(
    lake: LakeReader, spec: ModelSpec, as_of: datetime, engine: EngineOptions = DUCKDB
) -> DataFrame[Pairs]:
    """Whom to score at `as_of` by the model's primary policy, ordered by user_id.

    daily: every user with an event in the eligibility window, at `as_of`. first-visit: every user whose
    own cut-off (first visit + 1 s) is not after `as_of`, each at that cut-off, which is where the model
    was taught; their rows carry it as `as_of`.

    Raises:
        DataError: there is no such user.
    """
    question = spec.feature_set.task
    if spec.primary == "first-visit":
        known = first_visit_pairs(lake, as_of, engine)
        pairs = known[known["as_of"] <= as_of]
        missing = f"No user's first visit lies before {iso(as_of)}."
    else:
        pairs = daily_pairs(lake, question, [as_of], engine)
        missing = f"Nobody was active in the {question.eligible_days} days before {iso(as_of)}."
    if pairs.empty:
        raise DataError(missing, remedy="ingest newer events, or choose an --as-of within the data.")
    ordered = pairs.sort_values("user_id", ignore_index=True)
    return Pairs.validate(ordered.assign(policy=pd.Series(spec.primary, index=ordered.index, dtype="str")))


def _chunks(pairs: DataFrame[Pairs]) -> Iterator[DataFrame[Pairs]]:
    for start in range(0, len(pairs), CHUNK_USERS):
        yield pairs.iloc[start : start + CHUNK_USERS].reset_index(drop=True)


def _predict(
    lake: LakeReader, served: ServedModel, pairs: DataFrame[Pairs], engine: EngineOptions
) -> pd.DataFrame:
    return predict_features(served, compute_features(lake, pairs, served.spec.feature_set, engine=engine))


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


def ranked(parts: list[pd.DataFrame]) -> DataFrame[Prediction]:
    """One frame in order of rank: by probability, ties by raw score, then by user_id."""
    together = pd.concat(parts, ignore_index=True)
    together = together.sort_values(
        ["probability", "raw_score", "user_id"], ascending=[False, False, True], ignore_index=True
    )
    return Prediction.validate(together.assign(rank=np.arange(1, len(together) + 1)))


def store_predictions(
    store: Store, predictions: DataFrame[Prediction], as_of: datetime, version: str
) -> None:
    """Store them and mirror them to the lake, in place of those of the same cut-offs and version."""
    for instant, window in predictions.groupby("as_of", sort=True):
        moment = to_utc_ms(cast("pd.Timestamp", instant).to_pydatetime())
        replace_predictions(store, cast("DataFrame[Prediction]", window), as_of=moment, model_version=version)
    mirror_predictions(store.settings.lake_url, predictions, as_of=as_of, version=version)
