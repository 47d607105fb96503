"""A whole file, scored: events or features in, a CSV of ranked users out."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from bentos.batch_files import EventFile, FeatureFile
from bentos.batch_report import BatchReport
from bentos.views import not_stored
from retail_core.arrow_compute import pq
from retail_core.csv_export import write_csv
from retail_core.errors import DataError, DependencyError
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoff_context import ContextFeatures, has_context_features, local_day
from retail_core.features.cutoffs.policies import policies_for, policy_for
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.schemas import EVENT_ARROW, TIME_DTYPE, Pairs
from retail_core.scoring.reason_columns import with_reasons
from retail_core.scoring.scores import CSV_COLUMNS, ranked
from retail_core.scoring.shop_context import stored_context
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.times import iso, to_utc_ms

ONE_MS = timedelta(milliseconds=1)


def score_file(
    served: ServedModel,
    upload: EventFile | FeatureFile,
    out: Path,
    *,
    as_of: datetime,
    context: ContextFeatures | None,
    reasons: int = 0,
) -> BatchReport:
    """Score every user of the upload at `as_of` and write the ranked CSV to `out`.

    `context` is what is stored of the shop on the day of `as_of`: an upload need not be the whole shop.
    Where it is None the report has a warning.
    With `reasons` the file has a column of that name, filled for the so many most likely buyers.

    Raises:
        DataError: there is nobody in it to score.
    """
    instant = to_utc_ms(as_of)
    report = upload.report(served.spec.version, iso(instant))
    if isinstance(upload, FeatureFile):
        rows = upload.rows.assign(policy=policies_for(upload.rows, served.spec.policies))
    else:
        rows = _features(served.spec, upload, instant, context or {})
        if context is None:
            report.warnings.append(not_stored(instant))
        report.silent_users = upload.events["user_id"].nunique() - len(rows)
    if rows.empty:
        raise DataError(
            f"The file has no user with an event in the look-back before {iso(instant)}.",
            remedy="choose an as_of after the events, and the source that wrote the file.",
        )
    policies = sorted(rows["policy"].unique())
    parts = [rows] if len(policies) == 1 else [rows[rows["policy"] == policy] for policy in policies]
    predictions = ranked(
        [_scored(served, part, policy, instant) for policy, part in zip(policies, parts, strict=True)]
    )
    scores = predictions[list(CSV_COLUMNS)]

    def features_of(top: pd.DataFrame) -> pd.DataFrame:
        explained = rows[rows["user_id"].isin(top["user_id"])]
        return explained.reindex(columns=["user_id", *served.spec.feature_set.columns])

    write_csv(with_reasons(served, scores, features_of, reasons) if reasons else scores, out)
    report.users = len(predictions)
    report.policy = ", ".join(sorted(predictions["policy"].unique()))
    return report


def default_as_of(upload: EventFile | FeatureFile, now: datetime) -> datetime:
    """One millisecond after the newest event, so that every event of the file counts; else `now`."""
    if isinstance(upload, FeatureFile) or upload.events.empty:
        return now
    newest: pd.Timestamp = upload.events["event_time"].max()
    return newest.to_pydatetime() + ONE_MS


class _FileAsLake:
    """An upload where the batch interpreter expects the lake."""

    def __init__(self, upload: EventFile, folder: Path) -> None:
        self._events, self._users = folder / "events.parquet", folder / "users.parquet"
        table = pa.Table.from_pandas(upload.events, schema=EVENT_ARROW, preserve_index=False)
        pq.write_table(table, self._events)
        users = pa.Table.from_pandas(upload.users, preserve_index=False)
        pq.write_table(users, self._users)
        self._has_users = len(users) > 0

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:  # noqa: ARG002
        """The one file, whatever the period."""
        return [str(self._events)]

    def users_file(self) -> str | None:
        """User attributes, where the source brings some."""
        return str(self._users) if self._has_users else None


def context_of(settings: Settings, spec: ModelSpec, as_of: datetime) -> ContextFeatures | None:
    """Context features stored for the day of `as_of`, if the model needs some.

    None where they are not stored or the store is away.
    """
    if not has_context_features(spec.feature_set.names):
        return {}
    try:
        with open_store(settings) as store:
            return stored_context(store, spec.feature_set.task, as_of)
    except DependencyError:
        return None


def _features(spec: ModelSpec, upload: EventFile, as_of: datetime, context: ContextFeatures) -> pd.DataFrame:
    pairs = _pairs(spec, upload, as_of)
    if pairs.empty:
        return pairs
    with tempfile.TemporaryDirectory() as folder:
        lake = _FileAsLake(upload, Path(folder))
        shop = {local_day(as_of, spec.feature_set.task): context}
        return compute_features(lake, DataFrame[Pairs](pairs), spec.feature_set, shop=shop)


def _pairs(spec: ModelSpec, upload: EventFile, as_of: datetime) -> pd.DataFrame:
    """user_id, as_of and policy of every user with an event in the look-back."""
    times = upload.events["event_time"]
    seen = (times < as_of) & (times >= as_of - spec.feature_set.task.lookback)
    last = upload.events[seen].groupby("user_id", sort=True)["event_time"].max()
    hours = (pd.Timestamp(as_of) - last).dt.total_seconds() / 3600
    return pd.DataFrame(
        {
            "user_id": pd.Series(last.index, dtype="str"),
            "as_of": pd.Series(pd.Timestamp(as_of), index=range(len(last))).astype(TIME_DTYPE),
            "policy": pd.Series([policy_for(silent, spec.policies) for silent in hours], dtype="str"),
        }
    )


def _scored(served: ServedModel, rows: pd.DataFrame, policy: str, as_of: datetime) -> pd.DataFrame:
    rows = rows.reset_index(drop=True)
    answer = served.predict(rows, policy, complete=False)
    return pd.DataFrame(
        {
            "user_id": rows["user_id"].astype("str"),
            "as_of": pd.Series(pd.Timestamp(as_of), index=rows.index).astype(TIME_DTYPE),
            "model_version": pd.Series(served.spec.version, index=rows.index, dtype="str"),
            "policy": pd.Series(policy, index=rows.index, dtype="str"),
            **{name: answer[name] for name in ("probability", "raw_score", "will_purchase", "contact")},
        }
    )
