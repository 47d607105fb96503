"""Score an uploaded file of events or features: a CSV of users in order of rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from bentos.predictor import missing_context_warning
from retail_core.arrow_compute import pq
from retail_core.csv_export import write_csv
from retail_core.errors import DataError, DependencyError
from retail_core.features.batch.batch_interpreter import feature_batches
from retail_core.features.cutoff_context import (
    ContextByDay,
    ContextFeatures,
    has_context_features,
    local_day,
)
from retail_core.features.cutoffs.list_cutoff import describe_window, list_cutoff
from retail_core.features.cutoffs.policies import policies_for
from retail_core.features.engine import LakeReader
from retail_core.log_coverage import covered_days, last_covered_day
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.schemas import EVENT_ARROW, Pairs
from retail_core.scoring.batch_report import BatchReport
from retail_core.scoring.list_predictions import eligible_pairs, predict_features, rank_predictions
from retail_core.scoring.reason_columns import with_reasons
from retail_core.scoring.scores import CSV_COLUMNS
from retail_core.scoring.shop_context import compute_context, stored_context
from retail_core.scoring.uploaded_files import EventFile, FeatureFile
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.temporary_files import temporary_folder
from retail_core.times import iso, to_utc_ms

MIN_CONTEXT_DAYS = 14
"""Days before the cut-off that a file must span for its own shop context: each weekday occurs twice."""


@dataclass(frozen=True)
class BatchRequest:
    """What to do with an upload.

    Attributes:
        as_of: the cut-off, aware; None for the default of lists (`list_cutoff`), for features `received_at`.
        received_at: when the request came, aware; only the default cut-off of features uses it.
        reasons: number of the most likely buyers that get reasons, in a further column.
    """

    as_of: datetime | None
    received_at: datetime
    reasons: int = 0


OnUsers = Callable[[int, int], None]
"""Receives the number of users scored so far and of all users to score; what it raises ends the scoring."""


def _ignore_users(_done: int, _users: int) -> None:
    """Do nothing."""


def score_file(
    served: ServedModel,
    upload: EventFile | FeatureFile,
    out: Path,
    request: BatchRequest,
    settings: Settings | None = None,
    on_users: OnUsers = _ignore_users,
) -> BatchReport:
    """Score the users of the upload at one cut-off and write the CSV to `out`.

    Of events the eligible users are scored, as by `retail score`, so that a complete log gives the same
    probabilities. The shop's context of the day is the stored one, else that of the file where it spans
    `MIN_CONTEXT_DAYS` days and as many buyers as the shop has; else the usual one, with a warning.

    Args:
        served: the model.
        upload: the file's rows.
        out: path of the CSV.
        request: cut-off and reasons.
        settings: where stored context is; None looks for none.
        on_users: called after each part of the users was scored.

    Raises:
        DataError: the file has no user to score.
    """
    if isinstance(upload, FeatureFile):
        rows, report = _score_features(served, upload, request)
        on_users(0, len(rows))
    else:
        with _upload_as_lake(upload) as lake:
            listed = _list_of_events(served, upload, lake, request, settings)
            rows = _features_of(lake, served.spec, listed, on_users)
        report = listed.report
        report.silent_users = upload.events["user_id"].nunique() - len(rows)
    predictions = rank_predictions([predict_features(served, rows, rows["policy"], complete=False)])
    on_users(len(rows), len(rows))
    scores = predictions[list(CSV_COLUMNS)]

    def features_of(top: pd.DataFrame) -> pd.DataFrame:
        explained = rows[rows["user_id"].isin(top["user_id"])]
        return explained.reindex(columns=["user_id", *served.spec.feature_set.columns])

    write_csv(with_reasons(served, scores, features_of, request.reasons) if request.reasons else scores, out)
    report.users = len(predictions)
    report.policy = ", ".join(sorted(predictions["policy"].unique()))
    return report


def _score_features(
    served: ServedModel, upload: FeatureFile, request: BatchRequest
) -> tuple[pd.DataFrame, BatchReport]:
    """The rows to predict for, and the report so far."""
    instant = to_utc_ms(request.as_of or request.received_at)
    report = upload.report(served.spec.version, iso(instant))
    rows = upload.rows.assign(
        policy=policies_for(upload.rows, served.spec.policies),
        as_of=pd.Series(pd.Timestamp(instant), index=upload.rows.index),
    )
    task = served.spec.feature_set.task
    report.statement = f"buys within {task.horizon_hours} h of the instant that the features describe"
    if usual := served.usual_context:
        columns = list(served.spec.feature_set.columns)
        missing = int(usual.is_missing(rows.reindex(columns=columns).to_numpy("float64")).sum())
        if missing:
            report.context = "usual"
            report.warnings.append(
                f"{missing} of {len(rows)} users come without the shop's context (features shop_*): "
                "the usual values of the training data were used."
            )
    return rows, report


@dataclass(frozen=True)
class _EventList:
    """The pairs to score for a file of events, the context by day, and the report so far."""

    pairs: DataFrame[Pairs]
    context: ContextByDay | None
    report: BatchReport


def _list_of_events(
    served: ServedModel,
    upload: EventFile,
    lake: LakeReader,
    request: BatchRequest,
    settings: Settings | None,
) -> _EventList:
    spec, task = served.spec, served.spec.feature_set.task
    newest = _newest_event(upload)
    instant = request.as_of or (list_cutoff(lake, newest, task.timezone) if newest else request.received_at)
    instant = to_utc_ms(instant)
    report = upload.report(spec.version, iso(instant))
    report.statement = describe_window(instant, task, newest, spec.primary)
    if upload.links:
        report.warnings.append(
            f"The file links {upload.links} pairs of ids of one person, which are scored as separate "
            "users here; ingest the file and run `retail score` to combine them."
        )
    try:
        pairs = eligible_pairs(lake, spec, instant)
    except DataError as error:
        raise DataError(
            error.message, remedy="choose an as_of after the events, and the source that wrote the file."
        ) from error
    context = _context(served, upload, lake, instant, settings)
    report.context, warning = context.origin, context.warning
    if warning:
        report.warnings.append(warning)
    by_day = None if spec.primary == "first-visit" else {local_day(instant, task): context.values}
    return _EventList(pairs, by_day, report)


def _features_of(lake: LakeReader, spec: ModelSpec, listed: _EventList, on_users: OnUsers) -> pd.DataFrame:
    """The features of the pairs, in their order, with a column `policy`."""
    pairs = listed.pairs
    on_users(0, len(pairs))
    batches, done = [], 0
    for part in feature_batches(lake, pairs, spec.feature_set, context=listed.context):
        batches.append(part)
        done += len(part)
        on_users(done, len(pairs))
    rows = pd.concat(batches).sort_index()
    return rows.assign(policy=policies_for(rows, spec.policies))


@dataclass(frozen=True)
class _DayContext:
    """Context features of the day of the cut-off, their origin as in `BatchReport`, and a warning."""

    values: ContextFeatures
    origin: str
    warning: str | None = None


def _context(
    served: ServedModel, upload: EventFile, lake: LakeReader, as_of: datetime, settings: Settings | None
) -> _DayContext:
    spec, usual = served.spec, served.usual_context
    if not has_context_features(spec.feature_set.names):
        return _DayContext({}, "none")
    task = spec.feature_set.task
    stored = stored_context_of(settings, spec, as_of) if settings is not None else None
    if stored is not None:
        return _DayContext(stored, "stored")
    missing = missing_context_warning(as_of, has_usual=usual is not None)
    replacement = "unknown" if usual is None else "usual"
    span = _days_before(upload, local_day(as_of, task), task.timezone)
    if span < MIN_CONTEXT_DAYS:
        few = (
            f"The file spans {span} days before {iso(as_of)}; its own shop context needs {MIN_CONTEXT_DAYS}."
        )
        return _DayContext({}, replacement, f"{few} {missing}")
    values = compute_context(lake, task, as_of)[local_day(as_of, task)]
    if usual is not None and not usual.fits_level(values.get("buyers_usual")):
        partial = (
            f"The file has {values.get('buyers_usual') or 0:,.3g} buyers on a usual day and the shop "
            f"{usual.level:,.3g}: it is not the shop's whole log, and its own shop context was not used."
        )
        return _DayContext({}, replacement, f"{partial} {missing}")
    return _DayContext(values, "file")


def stored_context_of(settings: Settings, spec: ModelSpec, as_of: datetime) -> ContextFeatures | None:
    """Context features stored for the day of `as_of`; None if there are none or MongoDB is unreachable."""
    try:
        with open_store(settings) as store:
            return stored_context(store, spec.feature_set.task, as_of)
    except DependencyError:
        return None


def _newest_event(upload: EventFile) -> datetime | None:
    """Time of the newest event of the file, outliers of wrong clocks aside; None without events."""
    times = upload.events["event_time"]
    days = times.dt.date
    newest_day = last_covered_day({day: int(n) for day, n in days.value_counts().items()})
    if newest_day is None:
        return None
    newest: pd.Timestamp = times[days == newest_day].max()
    return newest.to_pydatetime()


def _days_before(upload: EventFile, day: date, zone_name: str) -> int:
    """Days from the first day of the file, outliers aside, up to but not including `day`."""
    counts = upload.events["event_time"].dt.tz_convert(zone_name).dt.date.value_counts()
    days = covered_days({first: int(n) for first, n in counts.items() if first < day})
    return (day - days[0]) // timedelta(days=1) if days else 0


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

    def identities_file(self) -> str | None:
        """None: the ids of an upload are those of its rows."""
        return None


@contextmanager
def _upload_as_lake(upload: EventFile) -> Iterator[LakeReader]:
    with temporary_folder("retail-upload-") as folder:
        yield _UploadAsLake(upload, folder)
