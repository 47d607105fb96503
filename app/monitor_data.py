"""Data of the Monitor page, read from MongoDB and the lake through `retail_core`, as data frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pandas as pd
from pymongo import DESCENDING
from pymongo.errors import PyMongoError

from retail_core.monitoring.live_metrics import live_metrics
from retail_core.monitoring.matured_predictions import expected_quality
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.ledger import shop_zone
from retail_core.store.mongo.predictions import read_outcomes
from retail_core.store.mongo.server_errors import mongodb_error

RECENT_DOCUMENTS = 200
_COUNTS = ("rows_read", "inserted", "duplicates", "quarantined")
_PROMOTION_METRICS = ("ap", "auc", "f1", "base_rate", "n", "positives")
LIVE_DAYS = timedelta(days=90)


@dataclass(frozen=True)
class Snapshot:
    """Everything that the Monitor page draws, read at one moment.

    Attributes:
        zone: the shop's time zone.
        files: one row per ingested file, newest first, with its counts.
        arrivals: `day`, `events`: events of the lake by UTC event day.
        refused: `rule`, `field`, `rows`: open quarantine rows by rule.
        live: one row per day of matured predictions: day, n, buyers, base_rate, f1, ap, ..., and what was
            expected of them.
        online: live metrics of online answers by day, policy and version, newest first.
        shadows: versions that score silently, newest first.
        checks: trigger checks, newest first.
        promotions: the promotion log, newest first.
        alerts: newest first, with the state of their delivery.
        predictions: number of stored predictions.
        profiles: `day`, `platform`, `users`, `events` of the profiled local days.
    """

    zone: str
    files: pd.DataFrame
    arrivals: pd.DataFrame
    refused: pd.DataFrame
    live: pd.DataFrame
    online: pd.DataFrame
    shadows: pd.DataFrame
    checks: pd.DataFrame
    promotions: pd.DataFrame
    alerts: pd.DataFrame
    predictions: int
    profiles: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_snapshot(settings: Settings) -> Snapshot:
    """Read the data of the page.

    Raises:
        DependencyError: MongoDB is unreachable.
    """
    with open_store(settings) as store:
        try:
            zone = shop_zone(store)
            return Snapshot(
                zone=zone,
                files=_files(store),
                arrivals=_arrivals(settings),
                refused=_refused(store),
                live=_live(store, zone),
                online=_newest(store, "online_quality", by="day"),
                shadows=_newest(store, "shadows", by="started"),
                checks=_newest(store, "trigger_checks"),
                promotions=_promotions(store),
                alerts=_newest(store, "alerts", by="last_at"),
                predictions=store.predictions.estimated_document_count(),
                profiles=_profiles(store),
            )
        except PyMongoError as error:
            raise mongodb_error(settings, error) from error


def _files(store: Store) -> pd.DataFrame:
    documents = store.ledger.find({"kind": "file"}).sort("started_at", DESCENDING).limit(RECENT_DOCUMENTS)
    rows = [
        {
            "file": file.get("file"),
            "source": file.get("source"),
            "state": file.get("state"),
            **{name: file.get("counts", {}).get(name, 0) for name in _COUNTS},
            "started_at": file.get("started_at"),
        }
        for file in documents
    ]
    return pd.DataFrame(rows + _posts(store), columns=["file", "source", "state", *_COUNTS, "started_at"])


def _posts(store: Store) -> list[dict[str, object]]:
    """Events posted through the API, as one row per channel and source."""
    stages: list[dict[str, object]] = [
        {"$match": {"kind": "window", "state": "committed", "file_id": {"$not": {"$regex": "^file:"}}}},
        {"$group": {"_id": "$file_id", **{name: {"$sum": f"$counts.{name}"} for name in _COUNTS}}},
    ]
    return [
        {"file": f"posted ({row['_id'].partition(':')[0]})", "source": row["_id"].partition(":")[2], **row}
        for row in store.ledger.aggregate(stages)
    ]


def _arrivals(settings: Settings) -> pd.DataFrame:
    rows = Lake(settings.lake_url).rows_by_day()
    return pd.DataFrame({"day": pd.to_datetime(list(rows)), "events": list(rows.values())})


def _refused(store: Store) -> pd.DataFrame:
    stages: list[dict[str, object]] = [
        {"$match": {"state": {"$ne": "replayed"}}},
        {"$group": {"_id": {"rule": "$rule", "field": "$field"}, "rows": {"$sum": 1}}},
        {"$sort": {"rows": -1}},
        {"$limit": RECENT_DOCUMENTS},
    ]
    rows = [{**group["_id"], "rows": group["rows"]} for group in store.quarantine.aggregate(stages)]
    return pd.DataFrame(rows, columns=["rule", "field", "rows"])


def _profiles(store: Store) -> pd.DataFrame:
    fields = {"platforms.platform": 1, "platforms.users": 1, "platforms.events": 1}
    days = store.data_profiles.find({}, fields).sort("_id", DESCENDING).limit(RECENT_DOCUMENTS)
    rows = [{"day": pd.Timestamp(day["_id"]), **platform} for day in days for platform in day["platforms"]]
    return pd.DataFrame(rows, columns=["day", "platform", "users", "events"])


def _live(store: Store, zone: str) -> pd.DataFrame:
    newest = store.outcomes.find_one(sort=[("as_of", DESCENDING)], projection={"as_of": 1})
    if newest is None:
        return pd.DataFrame(columns=["day"])
    outcomes = read_outcomes(store, since=newest["as_of"] - LIVE_DAYS)
    days = outcomes["as_of"].dt.tz_convert(zone).dt.date
    return pd.DataFrame(
        [
            {
                "day": pd.Timestamp(str(day)),
                "versions": ", ".join(sorted(rows["model_version"].unique())),
                **live_metrics(rows).to_dict(),
                **expected_quality(rows),
            }
            for day, rows in outcomes.groupby(days, sort=True)
        ]
    )


def _promotions(store: Store) -> pd.DataFrame:
    log = _newest(store, "promotions")
    if log.empty:
        return log
    first = [next(iter((metrics or {"": {}}).items())) for metrics in log["metrics"]]
    measured = {name: [metrics.get(name) for _, metrics in first] for name in _PROMOTION_METRICS}
    shown = log.reindex(columns=["at", "kind", "version", "previous", "actor", "reason"])
    return shown.assign(policy=[policy for policy, _ in first], **measured)


def _newest(store: Store, collection: str, by: str = "at") -> pd.DataFrame:
    documents = store.database[collection].find({}, {"_id": 0}).sort(by, DESCENDING).limit(RECENT_DOCUMENTS)
    return pd.DataFrame(list(documents))
