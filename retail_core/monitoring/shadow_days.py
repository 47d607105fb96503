"""Matured days of a shadow: its stored predictions beside the champion's, with the outcomes of the latter."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

import pandas as pd

from retail_core.features.prediction_task import PredictionTask
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.paired_comparison import DayDifference, day_difference
from retail_core.registry.shadow_record import Shadow
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.predictions import read_outcomes, read_shadow_predictions
from retail_core.times import parse_instant, zone


@dataclass(frozen=True)
class ShadowDay:
    """A matured local day.

    Attributes:
        day: local day of the cut-offs.
        difference: the comparison of the two versions on it.
        runs: hash of the scoring and labelling runs that it was computed from.
    """

    day: date
    difference: DayDifference
    runs: str

    def to_document(self) -> Document:
        """As stored with the shadow."""
        return {"day": self.day.isoformat(), "runs": self.runs, **asdict(self.difference)}

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> ShadowDay:
        """Inverse of `to_document`."""
        figures = {name: document[name] for name in DayDifference.__dataclass_fields__}
        day = date.fromisoformat(str(document["day"]))
        return cls(day, DayDifference(**figures), str(document["runs"]))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Window:
    """One cut-off that both versions scored and whose outcomes are known; `runs` names what wrote them."""

    as_of: datetime
    runs: str


def unseen_from(champion: ModelSpec, other: ModelSpec) -> datetime:
    """First cut-off whose label neither version was trained on, UTC."""
    return max(parse_instant(spec.data["as_of"]) for spec in (champion, other))


def matured_days(
    store: Store, shadow: Shadow, champion: ModelSpec, since: datetime, until: datetime
) -> list[ShadowDay]:
    """The days that both versions scored and whose horizon has passed at `until`, oldest first.

    Days that the shadow's record has from the same runs are not computed again.

    Args:
        store: the open store.
        shadow: which versions.
        champion: specification of the champion; gives horizon, policy and time zone.
        since: cut-offs before it do not count, see `unseen_from`.
        until: instant up to which horizons count, UTC.
    """
    task = champion.feature_set.task
    windows = _compared_windows(store, shadow, since, until - task.horizon)
    stored = {entry["day"]: entry for entry in shadow.days}
    days = []
    for day, of_day in comparison_windows(windows, task, pooled=champion.primary == "first-visit"):
        runs = hashlib.blake2b("".join(w.runs for w in of_day).encode(), digest_size=8).hexdigest()
        entry = stored.get(day.isoformat())
        if entry is not None and entry["runs"] == runs:
            days.append(ShadowDay.from_document(entry))
            continue
        difference = _difference(store, shadow, of_day[0].as_of, of_day[-1].as_of)
        days.append(ShadowDay(day, difference, runs))
    return days


def comparison_windows(
    windows: Sequence[Window], task: PredictionTask, *, pooled: bool
) -> list[tuple[date, list[Window]]]:
    """The windows to compare by local day, such that no user's horizons overlap.

    The first list of a day counts, and after a horizon of several days only the next day that begins after
    it. With `pooled` every window of a day counts, since each user has one cut-off only.

    Args:
        windows: in order of their cut-offs.
        task: gives horizon and time zone.
        pooled: whether the cut-offs are of first visits.
    """
    by_day: dict[date, list[Window]] = defaultdict(list)
    for window in windows:
        by_day[window.as_of.astimezone(zone(task.timezone)).date()].append(window)
    if pooled:
        return sorted(by_day.items())
    gap, selected = timedelta(days=-(-task.horizon_hours // 24)), []
    next_day = date.min
    for day, of_day in sorted(by_day.items()):
        if day >= next_day:
            selected.append((day, of_day[:1]))
            next_day = day + gap
    return selected


def _compared_windows(store: Store, shadow: Shadow, since: datetime, until: datetime) -> list[Window]:
    """Cut-offs with whole predictions of the shadow and whole outcomes of the champion, in order."""
    period = {"state": "whole", "as_of": {"$gte": since, "$lte": until}}
    labelled = {
        entry["as_of"]: entry["run"]
        for entry in store.prediction_windows.find(
            {
                "collection": store.outcomes.name,
                "model_version": shadow.champion,
                "predictions_run": {"$exists": True},
                **period,
            }
        )
    }
    scored = store.prediction_windows.find(
        {"collection": store.shadow_predictions.name, "model_version": shadow.version, **period},
        sort=[("as_of", 1)],
    )
    return [
        Window(entry["as_of"], f"{entry['run']}{labelled[entry['as_of']]}")
        for entry in scored
        if entry["as_of"] in labelled
    ]


def _difference(store: Store, shadow: Shadow, since: datetime, until: datetime) -> DayDifference:
    """The comparison on the users that both versions scored."""
    champion = read_outcomes(store, since=since, until=until, model_version=shadow.champion)
    other = read_shadow_predictions(store, since=since, until=until, model_version=shadow.version)
    key = ["user_id", "as_of"]
    rows = champion[[*key, "probability", "purchased"]].merge(
        other[[*key, "probability"]], on=key, suffixes=("", "_shadow"), validate="one_to_one"
    )
    return paired_difference(rows)


def paired_difference(rows: pd.DataFrame) -> DayDifference:
    """The comparison of rows with `purchased`, `probability` and `probability_shadow`."""
    return day_difference(
        rows["purchased"].to_numpy(bool),
        rows["probability"].to_numpy(float),
        rows["probability_shadow"].to_numpy(float),
    )
