"""The library API for notebooks: events in; point-in-time features, labels and predictions out.

No database and no setup is needed: an events frame is written to a temporary folder and goes through the
same batch interpreter as the commands, so the numbers are equal. Public root of the library; everything
else in `retail_core` may change between releases.

Examples:
    >>> import pandas as pd
    >>> from retail_core.api import PredictionTask, labels, point_in_time_features
    >>> events = pd.DataFrame({
    ...     "user_id": ["ann", "ann", "bob"],
    ...     "event_time": pd.to_datetime(["2025-01-05T10:00Z", "2025-01-06T09:00Z", "2025-01-05T20:00Z"]),
    ...     "event_type": ["add_to_cart", "purchase", "view_item"],
    ...     "item_id": ["shoe", "shoe", "hat"],
    ...     "price_minor": [4999, 4999, 1250],
    ... })
    >>> features = point_in_time_features(events, as_of="2025-01-06T00:00Z", task=PredictionTask())
    >>> features[["user_id", "event_count_1d", "open_cart_value", "hours_since_event"]]
      user_id  event_count_1d  open_cart_value  hours_since_event
    0     ann             1.0           4999.0               14.0
    1     bob             1.0              0.0                4.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError, InputError
from retail_core.features.batch.attribute_columns import infer_attributes
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.cutoff_plan import plan_cutoffs, read_log_coverage
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader
from retail_core.features.feature_set import default_feature_set
from retail_core.features.frame_lake import Events, open_frame_lake, validated_pairs
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import overlaps_gap
from retail_core.schemas import LATEST, Pairs, Prediction
from retail_core.times import parse_instant, to_utc_ms

if TYPE_CHECKING:
    from retail_core.model.served_model import ServedModel
    from retail_core.settings import Settings

__all__ = ["Events", "Instant", "PredictionTask", "labels", "point_in_time_features", "predictions"]

Instant = datetime | str
"""An aware datetime, or an ISO 8601 text with an offset."""


def point_in_time_features(
    events: Events,
    cutoffs: pd.DataFrame | None = None,
    *,
    as_of: Instant | Sequence[Instant] | None = None,
    task: PredictionTask | None = None,
    users: pd.DataFrame | None = None,
    engine: EngineOptions = DUCKDB,
) -> pd.DataFrame:
    """Every feature of users at cut-offs, from events before each cut-off alone.

    Args:
        events: `user_id` (text), `event_time` (aware, cut down to milliseconds), `event_type` and any of
            the other columns of `retail_core.schemas.Event`; a missing column is null. Without `event_id`
            the order of the rows decides between events at the same time.
        cutoffs: `user_id`, `as_of` (aware), one row of features for each; further columns are kept.
        as_of: instead of `cutoffs`, one instant or several: all eligible users of the task at each.
        task: look-back, eligibility and time zone; by default `PredictionTask()`.
        users: user attributes: `user_id`, `valid_from` (aware), `attributes` (a JSON object as text).
            They become columns as in training, inferred from rows valid before the first cut-off.
        engine: DuckDB by default; the numbers of Spark are equal.

    Returns:
        `user_id`, `as_of` (UTC), then float64 features as in docs/features.md, null = NaN.

    Raises:
        InputError: a column is unknown, missing, of another type or without a time zone, a value is
            outside the contract, or not exactly one of `cutoffs` and `as_of` is given.
        DataError: no user is eligible at any of the instants.

    Examples:
        >>> import pandas as pd
        >>> events = pd.DataFrame({
        ...     "user_id": ["ann", "ann"],
        ...     "event_time": pd.to_datetime(["2025-01-05T10:00Z", "2025-01-05T22:00Z"]),
        ...     "event_type": ["view_item", "view_item"],
        ... })
        >>> cutoffs = pd.DataFrame({
        ...     "user_id": ["ann", "ann"],
        ...     "as_of": pd.to_datetime(["2025-01-05T12:00Z", "2025-01-06T00:00Z"]),
        ... })
        >>> point_in_time_features(events, cutoffs)["event_count_1d"].tolist()
        [1.0, 2.0]
    """
    task = task or PredictionTask()
    if (cutoffs is None) == (as_of is None):
        raise InputError(
            "Exactly one of cutoffs and as_of is needed.",
            remedy="pass cutoffs=DataFrame(user_id, as_of), or as_of=instant for all eligible users.",
        )
    with open_frame_lake(events, users) as lake:
        if cutoffs is not None:
            pairs = validated_pairs(cutoffs)
        else:
            pairs = _eligible_pairs(lake, task, _instants(as_of), engine)
        attributes = infer_attributes(lake, pairs["as_of"].min().to_pydatetime()) if len(pairs) else ()
        return compute_features(lake, pairs, default_feature_set(task, attributes), engine=engine)


def labels(
    events: Events,
    pairs: pd.DataFrame,
    task: PredictionTask | None = None,
    *,
    engine: EngineOptions = DUCKDB,
) -> pd.DataFrame:
    """Whether each user purchases within the horizon after the cut-off; unknown where the log cannot say.

    A label is unknown (`<NA>`), never False, where the horizon ends after the newest event of the log or
    overlaps a gap: a day without any event on which the shop is not regularly closed.

    Args:
        events: see `point_in_time_features`.
        pairs: `user_id`, `as_of` (aware); further columns are kept.
        task: horizon and time zone; by default `PredictionTask()`.
        engine: DuckDB by default.

    Returns:
        `pairs` with a column `label` (nullable boolean), in their order and with their index.

    Raises:
        InputError: as for `point_in_time_features`.

    Examples:
        >>> import pandas as pd
        >>> events = pd.DataFrame({
        ...     "user_id": ["ann", "bob", "bob"],
        ...     "event_time": pd.to_datetime(["2025-01-05T10:00Z", "2025-01-06T09:00Z", "2025-01-07T09:00Z"]),
        ...     "event_type": ["view_item", "purchase", "view_item"],
        ... })
        >>> pairs = pd.DataFrame({
        ...     "user_id": ["ann", "bob", "bob"],
        ...     "as_of": pd.to_datetime(["2025-01-06T00:00Z", "2025-01-06T00:00Z", "2025-01-07T00:00Z"]),
        ... })
        >>> labels(events, pairs)["label"].tolist()
        [False, True, <NA>]
    """
    task = task or PredictionTask()
    checked = validated_pairs(pairs)
    with open_frame_lake(events, None) as lake:
        coverage = read_log_coverage(lake, LATEST.to_pydatetime(), task.timezone, engine)
        purchased = label_pairs(lake, task, checked, engine=engine).astype("boolean")
    if not coverage.counts:
        return checked.assign(label=purchased.mask(purchased.notna()))
    gaps = plan_cutoffs(replace(coverage, as_of=coverage.known_until), task).gaps
    ends_later = checked["as_of"] + task.horizon > pd.Timestamp(coverage.known_until)
    in_gap = np.array(
        [overlaps_gap(t, t + task.horizon, task.timezone, gaps) for t in checked["as_of"].dt.to_pydatetime()],
        np.bool_,
    )
    return checked.assign(label=purchased.mask(ends_later | in_gap))


def predictions(
    model: ServedModel | str | int | Path,
    events: Events,
    as_of: Instant,
    *,
    users: pd.DataFrame | None = None,
    settings: Settings | None = None,
    engine: EngineOptions = DUCKDB,
) -> DataFrame[Prediction]:
    """Predictions of a model for every eligible user at one instant, sorted by rank.

    Args:
        model: the folder of a logged model, a version of the registry, or a model loaded before.
        events: see `point_in_time_features`; only events before `as_of` are used.
        as_of: the cut-off.
        users: user attributes, see `point_in_time_features`.
        settings: where the registry is; by default from the environment. Read for versions only.
        engine: DuckDB by default.

    Returns:
        The columns of `retail_core.schemas.Prediction`: probability, rank, will_purchase, contact and more.

    Raises:
        InputError: as for `point_in_time_features`, or the folder holds no model.
        DataError: no user is eligible, or the registry has no such version.
        DependencyError: MLflow is unreachable.
        IntegrityError: the model cannot be used by this release.
    """
    from retail_core.scoring.list_predictions import predict_eligible

    served = _load_model(model, settings)
    with open_frame_lake(events, users) as lake:
        return predict_eligible(lake, served, _instants(as_of)[0], engine)


def _load_model(model: ServedModel | str | int | Path, settings: Settings | None) -> ServedModel:
    from retail_core.model.served_model import ServedModel, load_served_model

    if isinstance(model, ServedModel):
        return model
    if not isinstance(model, int) and (isinstance(model, Path) or Path(model).is_dir()):
        return load_served_model(Path(model))
    from retail_core.registry.versions import load_version
    from retail_core.settings import Settings

    return load_version(settings or Settings(), str(model))


def _eligible_pairs(
    lake: LakeReader, task: PredictionTask, instants: Sequence[datetime], engine: EngineOptions
) -> DataFrame[Pairs]:
    pairs = daily_pairs(lake, task, instants, engine)
    if pairs.empty:
        raise DataError(
            f"No user has an event in the {task.eligible_days} days before the given instants.",
            remedy="choose an as_of within the data.",
        )
    return pairs


def _instants(as_of: Instant | Sequence[Instant] | None) -> list[datetime]:
    """Aware datetimes in UTC, cut down to milliseconds."""
    items = [as_of] if isinstance(as_of, datetime | str) else list(as_of or ())
    return [_instant(item) for item in items]


def _instant(as_of: Instant) -> datetime:
    instant = as_of
    if isinstance(as_of, str):
        try:
            instant = datetime.fromisoformat(as_of.strip())
        except ValueError:
            return parse_instant(as_of)
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise InputError(
            f"as_of {as_of!s} has no time zone.", remedy="write an offset: 2025-01-31T00:00:00+01:00 or Z."
        )
    return to_utc_ms(instant)
