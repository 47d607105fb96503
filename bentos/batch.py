"""Score an uploaded file of events or features: a CSV of rank_predictions users."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from bentos.batch_files import BatchReport, EventFile, FeatureFile
from bentos.predictor import missing_context_warning
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
from retail_core.scoring.scores import CSV_COLUMNS, predict_features, rank_predictions
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
    """Score every user of the upload at `as_of` and write the rank_predictions CSV to `out`.

    Args:
        served: the model.
        upload: the file's rows.
        out: path of the CSV.
        as_of: the cut-off, aware.
        context: context features stored for the day of `as_of`, as an upload may be a part of the shop's
            log; None adds a warning to the report.
        reasons: number of the most likely buyers that get reasons, in a further column.

    Raises:
        DataError: the file has no user to score.
    """
    instant = to_utc_ms(as_of)
    report = upload.report(served.spec.version, iso(instant))
    if isinstance(upload, FeatureFile):
        rows = upload.rows.assign(policy=policies_for(upload.rows, served.spec.policies))
    else:
        rows = _features(served.spec, upload, instant, context or {})
        if context is None:
            report.warnings.append(missing_context_warning(instant))
        report.silent_users = upload.events["user_id"].nunique() - len(rows)
    if rows.empty:
        raise DataError(
            f"The file has no user with an event in the look-back before {iso(instant)}.",
            remedy="choose an as_of after the events, and the source that wrote the file.",
        )
    features = rows.assign(as_of=pd.Series(pd.Timestamp(instant), index=rows.index))
    predictions = rank_predictions([predict_features(served, features, rows["policy"], complete=False)])
    scores = predictions[list(CSV_COLUMNS)]

    def features_of(top: pd.DataFrame) -> pd.DataFrame:
        explained = rows[rows["user_id"].isin(top["user_id"])]
        return explained.reindex(columns=["user_id", *served.spec.feature_set.columns])

    write_csv(with_reasons(served, scores, features_of, reasons) if reasons else scores, out)
    report.users = len(predictions)
    report.policy = ", ".join(sorted(predictions["policy"].unique()))
    return report


def default_as_of(upload: EventFile | FeatureFile, now: datetime) -> datetime:
    """One millisecond after the newest event, so that all events of the file count; `now` for features."""
    if isinstance(upload, FeatureFile) or upload.events.empty:
        return now
    newest: pd.Timestamp = upload.events["event_time"].max()
    return newest.to_pydatetime() + ONE_MS


class _UploadAsLake:
    """An upload with the interface of the lake that the batch interpreter reads."""

    def __init__(self, upload: EventFile, folder: Path) -> None:
        self._events, self._users = folder / "events.parquet", folder / "users.parquet"
        table = pa.Table.from_pandas(upload.events, schema=EVENT_ARROW, preserve_index=False)
        pq.write_table(table, self._events)
        users = pa.Table.from_pandas(upload.users, preserve_index=False)
        pq.write_table(users, self._users)
        self._has_users = len(users) > 0

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:  # noqa: ARG002
        """The one file of events, for any period."""
        return [str(self._events)]

    def users_file(self) -> str | None:
        """The file of user attributes, if the source has some."""
        return str(self._users) if self._has_users else None


def context_of(settings: Settings, spec: ModelSpec, as_of: datetime) -> ContextFeatures | None:
    """Context features stored for the day of `as_of`; empty if the model needs none.

    None if they are not stored or MongoDB is unreachable.
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
        lake = _UploadAsLake(upload, Path(folder))
        by_day = {local_day(as_of, spec.feature_set.task): context}
        return compute_features(lake, DataFrame[Pairs](pairs), spec.feature_set, context=by_day)


def _pairs(spec: ModelSpec, upload: EventFile, as_of: datetime) -> pd.DataFrame:
    """user_id, as_of and policy of every user with an event in the look-back."""
    times = upload.events["event_time"]
    in_lookback = (times < as_of) & (times >= as_of - spec.feature_set.task.lookback)
    last = upload.events[in_lookback].groupby("user_id", sort=True)["event_time"].max()
    hours = (pd.Timestamp(as_of) - last).dt.total_seconds() / 3600
    return pd.DataFrame(
        {
            "user_id": pd.Series(last.index, dtype="str"),
            "as_of": pd.Series(pd.Timestamp(as_of), index=range(len(last))).astype(TIME_DTYPE),
            "policy": pd.Series([policy_for(silent, spec.policies) for silent in hours], dtype="str"),
        }
    )
