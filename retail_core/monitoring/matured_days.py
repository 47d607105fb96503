"""Matured lists as counts by day, read from MongoDB: what the triggers `performance` and `calibration` test.

Separate from `matured_predictions`, which labels and stores the outcomes row by row.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np

from retail_core.errors import DataError, IntegrityError
from retail_core.log_coverage import overlaps_gap
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.calibration_test import PromisedDays
from retail_core.monitoring.performance_test import ConfusionDays, ReferencePerformance
from retail_core.registry.promotion_record import history
from retail_core.registry.versions import version_spec
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.predictions import outcome_counts
from retail_core.store.mongo.shop_calendar import announced_days
from retail_core.times import parse_instant, zone

log = logging.getLogger(__name__)

MAX_REACH = timedelta(days=60)
"""Lists older than this are not read."""

_OVERLAP = timedelta(hours=2)
"""Lists may overlap by this: local days of 23 hours, and lists made a little earlier than the day before."""


@dataclass(frozen=True)
class MaturedDay:
    """Counts of the list of one day, whose outcome is known.

    Attributes:
        as_of: cut-off of the list.
        version: the model version that made it.
        rows: number of users.
        buyers: users who bought within the horizon.
        promised: sum of the probabilities.
        squares: sum of the squared probabilities.
        true_positives: buyers who were expected to buy (`will_purchase`).
        false_positives: others who were expected to buy.
    """

    as_of: datetime
    version: str
    rows: int
    buyers: int
    promised: float
    squares: float
    true_positives: int
    false_positives: int


@dataclass(frozen=True)
class MaturedDays:
    """The lists that were served, one per horizon, ascending.

    Attributes:
        days: lists of the champion and of earlier champions, each for labels that its model has not seen.
        announced: number of days that were left out because they are announced in the calendar.
        specs: specification of each version, the champion first.
    """

    days: tuple[MaturedDay, ...]
    announced: int
    specs: Mapping[str, ModelSpec]

    def since(self, instant: datetime | None) -> MaturedDays:
        """The lists with a cut-off at or after `instant`."""
        if instant is None:
            return self
        return replace(self, days=tuple(day for day in self.days if day.as_of >= instant))

    def newest(self, count: int) -> MaturedDays:
        """The newest `count` lists."""
        return replace(self, days=self.days[-count:])

    @property
    def buyers(self) -> int:
        """Number of buyers of all lists."""
        return sum(day.buyers for day in self.days)

    def promised(self) -> PromisedDays:
        """Promised and observed buyers by day."""
        return PromisedDays(
            np.array([day.promised for day in self.days]),
            np.array([day.squares for day in self.days]),
            np.array([day.buyers for day in self.days], dtype=np.int64),
        )

    def confusion(self, references: Mapping[str, ReferencePerformance]) -> ConfusionDays:
        """Confusion counts of the days whose version has a reference."""
        days = [day for day in self.days if day.version in references]
        index = {version: position for position, version in enumerate(references)}
        return ConfusionDays(
            buyers=np.array([day.buyers for day in days], dtype=np.int64),
            non_buyers=np.array([day.rows - day.buyers for day in days], dtype=np.int64),
            true_positives=np.array([day.true_positives for day in days], dtype=np.int64),
            false_positives=np.array([day.false_positives for day in days], dtype=np.int64),
            references=tuple(references.values()),
            version=np.array([index[day.version] for day in days], dtype=np.int64),
        )


def read_matured_days(store: Store, champion: ModelSpec, as_of: datetime) -> MaturedDays:
    """Lists of the champion's primary policy whose outcome is known at `as_of` (aware), newest `MAX_REACH`.

    See `select_days`; days that are announced in the calendar are left out.
    """
    rows = outcome_counts(store, since=as_of - MAX_REACH, before=as_of, policy=champion.primary)
    specs = _served_specs(store, champion, {str(row["model_version"]) for row in rows})
    return select_days(rows, specs, as_of, announced_days(store))


def select_days(
    rows: Sequence[Document], specs: Mapping[str, ModelSpec], as_of: datetime, announced: Collection[date]
) -> MaturedDays:
    """One list per horizon: the champion's, else that of the most recent champion before it.

    So days that earlier champions served stay in evidence about the shop after a promotion. Lists whose
    horizon touches an announced day are left out, and so are lists that their model has been trained on.

    Args:
        rows: counts as of `predictions.outcome_counts`, ascending.
        specs: of the champion and of earlier champions, the newest first.
        as_of: aware.
        announced: local days of the shop's calendar.
    """
    task = next(iter(specs.values())).feature_set.task
    rank = {version: position for position, version in enumerate(specs)}
    unseen = [row for row in rows if row["model_version"] in rank and _is_unseen(row, specs, as_of)]
    lists = list(_one_list_per_horizon(unseen, rank, task.horizon, task.timezone))
    days = list(announced)
    usual = [
        row
        for row in lists
        if not overlaps_gap(row["as_of"], row["as_of"] + task.horizon, task.timezone, days)
    ]
    return MaturedDays(tuple(_matured_day(row) for row in usual), len(lists) - len(usual), specs)


def _served_specs(store: Store, champion: ModelSpec, stored: set[str]) -> dict[str, ModelSpec]:
    """Specifications of the champion and earlier champions that have outcomes, the newest first."""
    specs = {champion.version: champion}
    for entry in reversed(history(store)):
        version = str(entry["version"])
        if version in specs or version not in stored:
            continue
        try:
            specs[version] = version_spec(store.settings, version)
        except (DataError, IntegrityError) as error:
            log.warning("Lists of version %s are left out: %s", version, error.message)
    return {
        version: spec
        for version, spec in specs.items()
        if spec.feature_set.task.horizon == champion.feature_set.task.horizon
    }


def _is_unseen(row: Document, specs: Mapping[str, ModelSpec], as_of: datetime) -> bool:
    """Whether the outcome is known at `as_of`, and the version has not been trained on it."""
    spec = specs[row["model_version"]]
    horizon = spec.feature_set.task.horizon
    trained = parse_instant(spec.training.get("recalibration", {}).get("as_of", spec.data["as_of"]))
    return bool(row["as_of"] > trained - horizon and row["as_of"] + horizon <= as_of)


def _one_list_per_horizon(
    rows: Sequence[Document], rank: dict[str, int], horizon: timedelta, zone_name: str
) -> Iterator[Document]:
    """Of each local day the earliest list of the newest champion, unless it overlaps the one before."""
    local, by_day = zone(zone_name), dict[date, list[Document]]()
    for row in rows:
        by_day.setdefault(row["as_of"].astimezone(local).date(), []).append(row)
    end: datetime | None = None
    for _, lists in sorted(by_day.items()):
        row = min(lists, key=lambda entry: (rank[entry["model_version"]], entry["as_of"]))
        if end is None or row["as_of"] >= end - _OVERLAP:
            end = row["as_of"] + horizon
            yield row


def _matured_day(row: Document) -> MaturedDay:
    fields = {name: row[name] for name in MaturedDay.__dataclass_fields__ if name != "version"}
    return MaturedDay(version=row["model_version"], **fields)
