"""Predictions, those of shadows, outcomes and audiences in MongoDB, each replaced as a whole.

A window of predictions or outcomes is everything of one (as_of, model version). Its entry in
`prediction_windows` has the state `writing` from before its first change until all documents are stored, and
readers skip such windows. So a killed run never shows a mix of old and new rows, and the next run of the
window corrects what it left: equal rows stay, all others are replaced. An audience has the same states in its
header.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import cast

import pandas as pd
import pyarrow
from pandera.typing.pandas import DataFrame
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from retail_core.errors import IntegrityError
from retail_core.file_locks import exclusive_lock
from retail_core.schemas import Outcome, Prediction
from retail_core.store.mongo.connection import Document, Store
from retail_core.times import iso, to_utc_ms

CHUNK_ROWS = 20_000
AUDIENCE_BATCH = 10_000
WRITERS = 2
_PREDICTION_FIELDS = {
    "user_id": pyarrow.string(),
    "as_of": pyarrow.timestamp("ms", tz="UTC"),
    "model_version": pyarrow.string(),
    "policy": pyarrow.string(),
    "probability": pyarrow.float64(),
    "raw_score": pyarrow.float64(),
    "rank": pyarrow.int64(),
    "will_purchase": pyarrow.bool_(),
    "contact": pyarrow.bool_(),
}
_OUTCOME_FIELDS = _PREDICTION_FIELDS | {"purchased": pyarrow.bool_()}


def replace_predictions(store: Store, frame: pd.DataFrame, *, as_of: datetime, model_version: str) -> int:
    """Replace all predictions of a window by `frame` and return its number of rows.

    Args:
        store: the open store.
        frame: rows of `Prediction` in any order, possibly none; further columns are not stored.
        as_of: the cut-off of every row, rounded down to milliseconds.
        model_version: the version of every row.

    Raises:
        IntegrityError: a row belongs to another window, or another machine wrote this one at the same time.
        pandera.errors.SchemaErrors: the frame is no `Prediction`.
    """
    return _replace_scores(store, store.predictions, frame, as_of, model_version)


def replace_shadow_predictions(
    store: Store, frame: pd.DataFrame, *, as_of: datetime, model_version: str
) -> int:
    """As `replace_predictions`, for the predictions of a shadow, which no list reads."""
    return _replace_scores(store, store.shadow_predictions, frame, as_of, model_version)


def read_shadow_predictions(
    store: Store, *, since: datetime, until: datetime, model_version: str
) -> DataFrame[Prediction]:
    """Stored predictions of a shadow with since <= as_of <= until, by as_of and rank."""
    query = {"as_of": {"$gte": to_utc_ms(since), "$lte": to_utc_ms(until)}}
    frame = _read(store, store.shadow_predictions, _PREDICTION_FIELDS, query, model_version)
    return cast("DataFrame[Prediction]", frame)


def read_predictions(
    store: Store,
    *,
    as_of: datetime | None = None,
    before: datetime | None = None,
    model_version: str | None = None,
) -> DataFrame[Prediction]:
    """Stored predictions of complete windows, ordered by as_of, model version and rank.

    Args:
        store: the open store.
        as_of: only this cut-off.
        before: only cut-offs strictly earlier.
        model_version: only this version.
    """
    query: Document = {}
    if as_of is not None:
        query["as_of"] = to_utc_ms(as_of)
    elif before is not None:
        query["as_of"] = {"$lt": to_utc_ms(before)}
    return cast(
        "DataFrame[Prediction]",
        _read(store, store.predictions, _PREDICTION_FIELDS, query, model_version),
    )


def write_outcomes(store: Store, frame: pd.DataFrame) -> int:
    """Replace the outcomes of each (as_of, model version) in `frame` and return its number of rows.

    Raises:
        IntegrityError: another machine wrote one of these windows at the same time.
        pandera.errors.SchemaErrors: the frame is no `Outcome`.
    """
    checked = Outcome.validate(frame.reset_index(drop=True), lazy=True)
    for _, rows in checked.groupby(["as_of", "model_version"], sort=True):
        as_of, version = rows["as_of"].iloc[0].to_pydatetime(), str(rows["model_version"].iloc[0])
        _replace_window(store, store.outcomes, rows, as_of, version)
    return len(checked)


def read_outcomes(
    store: Store,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    model_version: str | None = None,
) -> DataFrame[Outcome]:
    """Matured predictions of complete windows, since <= as_of <= until, by as_of, model version and rank."""
    bounds = {"$gte": since, "$lte": until}
    limits = {name: to_utc_ms(bound) for name, bound in bounds.items() if bound is not None}
    query: Document = {"as_of": limits} if limits else {}
    return cast("DataFrame[Outcome]", _read(store, store.outcomes, _OUTCOME_FIELDS, query, model_version))


def outcome_counts(store: Store, *, since: datetime, before: datetime, policy: str) -> list[Document]:
    """Counts of each list of matured predictions, by as_of and model version, computed by MongoDB.

    Args:
        store: the open store.
        since: first cut-off, inclusive.
        before: last cut-off, exclusive.
        policy: cut-off policy of the rows.

    Returns:
        Documents with `as_of`, `model_version`, `rows`, `buyers`, `promised` (sum of the probabilities),
        `squares` (sum of their squares), `true_positives` and `false_positives` (of `will_purchase`).
    """
    bought, expected = {"$toInt": "$purchased"}, {"$toInt": "$will_purchase"}
    query: Document = {"as_of": {"$gte": to_utc_ms(since), "$lt": to_utc_ms(before)}, "policy": policy}
    group = {
        "_id": {"as_of": "$as_of", "model_version": "$model_version"},
        "rows": {"$sum": 1},
        "buyers": {"$sum": bought},
        "promised": {"$sum": "$probability"},
        "squares": {"$sum": {"$multiply": ["$probability", "$probability"]}},
        "true_positives": {"$sum": {"$multiply": [bought, expected]}},
        "false_positives": {"$sum": {"$multiply": [{"$subtract": [1, bought]}, expected]}},
    }
    stages = [
        {"$match": query | _unfinished(store, store.outcomes)},
        {"$group": group},
        {"$sort": {"_id": 1}},
    ]
    return [{**row.pop("_id"), **row} for row in store.outcomes.aggregate(stages)]


def replace_audience(store: Store, header: Document, members: Iterable[Document]) -> int:
    """Replace the audience with the `_id` of `header` and return its number of members.

    Args:
        store: the database.
        header: document of the audience.
        members: documents with `user_id`.
    """
    audience_id, count = header["_id"], 0
    with exclusive_lock(store.settings.home_dir / "audiences.lock"):
        store.audiences.replace_one(
            {"_id": audience_id}, header | {"kind": "audience", "state": "writing"}, upsert=True
        )
        store.audiences.delete_many({"audience": audience_id})
        remaining = iter(members)
        while batch := list(islice(remaining, AUDIENCE_BATCH)):
            documents = [
                {
                    "_id": f"{audience_id}:{member['user_id']}",
                    "kind": "member",
                    "audience": audience_id,
                    **member,
                }
                for member in batch
            ]
            store.audiences.insert_many(documents, ordered=False)
            count += len(documents)
        store.audiences.update_one({"_id": audience_id}, {"$set": {"state": "whole", "members": count}})
    return count


def read_members(store: Store, audience_id: str) -> list[Document]:
    """Members (`user_id, probability, rank, group`) by rank; an empty list if the audience is incomplete."""
    if store.audiences.find_one({"_id": audience_id, "state": "whole"}) is None:
        return []
    fields = {"_id": 0, "user_id": 1, "probability": 1, "rank": 1, "group": 1}
    return list(store.audiences.find({"audience": audience_id}, fields).sort("rank", 1))


def _replace_scores(
    store: Store, collection: Collection[Document], frame: pd.DataFrame, as_of: datetime, model_version: str
) -> int:
    checked = Prediction.validate(frame.reset_index(drop=True), lazy=True)
    _check_window(checked, as_of, model_version)
    return _replace_window(store, collection, checked, as_of, model_version)


def _check_window(frame: pd.DataFrame, as_of: datetime, model_version: str) -> None:
    other_window = (frame["as_of"] != pd.Timestamp(to_utc_ms(as_of))) | (
        frame["model_version"] != model_version
    )
    if other_window.any():
        raise IntegrityError(
            f"{int(other_window.sum())} of {len(frame)} predictions are not of as_of {iso(as_of)} and "
            f"model version {model_version}.",
            remedy="replace one window at a time.",
        )


def _replace_window(
    store: Store, collection: Collection[Document], rows: pd.DataFrame, as_of: datetime, model_version: str
) -> int:
    as_of = to_utc_ms(as_of)
    window = {"as_of": as_of, "model_version": model_version}
    key = {"_id": f"{collection.name}:{iso(as_of)}:{model_version}"}
    claim = {"state": "writing", "run": uuid.uuid4().hex}
    entry = {"collection": collection.name, **window, **claim}
    completed = {"$set": {"state": "whole", "rows": len(rows)}}
    with exclusive_lock(store.settings.home_dir / f"{collection.name}.lock"):
        store.prediction_windows.update_one(key, {"$set": entry}, upsert=True)
        unchanged_users = _delete_changed(collection, rows, window)
        _insert(collection, _without_users(rows, unchanged_users), window)
        # The lock covers this machine only; these two checks detect a writer on another one.
        is_complete = collection.count_documents(window) == len(rows)
        if not is_complete or store.prediction_windows.update_one(key | claim, completed).modified_count != 1:
            raise _concurrent_write(window)
    return len(rows)


def _delete_changed(collection: Collection[Document], rows: pd.DataFrame, window: Document) -> pd.Series:
    """Delete stored rows of the window that are not in `rows`; returns the users whose rows are equal."""
    fields = {
        name: kind for name, kind in _OUTCOME_FIELDS.items() if name in rows.columns and name not in window
    }
    stored = _find(collection, fields, window)
    equal = stored.merge(rows, on="user_id", suffixes=("", "_new"))
    for name in fields.keys() - {"user_id"}:
        equal = equal[equal[name] == equal[f"{name}_new"]]
    unchanged_users = equal["user_id"]
    changed_users = _without_users(stored, unchanged_users)["user_id"].tolist()
    if len(unchanged_users) == 0:
        collection.delete_many(window)
    for start in range(0, len(changed_users) if len(unchanged_users) else 0, CHUNK_ROWS):
        collection.delete_many(window | {"user_id": {"$in": changed_users[start : start + CHUNK_ROWS]}})
    return unchanged_users


def _without_users(frame: pd.DataFrame, users: pd.Series) -> pd.DataFrame:
    """Rows of all other users; a hash index, because `Series.isin` on Arrow strings builds a Python list."""
    remaining: pd.DataFrame = frame[pd.Index(users).get_indexer(pd.Index(frame["user_id"])) < 0]
    return remaining


def _concurrent_write(window: Document) -> IntegrityError:
    return IntegrityError(
        f"Another machine wrote the window of as_of {iso(window['as_of'])}, model version "
        f"{window['model_version']}, at the same time; it is hidden until it is whole.",
        remedy="run the command again.",
    )


def _insert(collection: Collection[Document], rows: pd.DataFrame, window: Document) -> None:
    """Insert in user order, which keeps writes to the unique index local, with several concurrent batches."""
    starts = range(0, len(rows), CHUNK_ROWS)
    ordered = rows.sort_values("user_id", kind="stable")

    def write(start: int) -> None:
        documents = list(_documents(ordered.iloc[start : start + CHUNK_ROWS], window))
        collection.insert_many(documents, ordered=False)

    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            for _ in pool.map(write, starts):
                pass
    except BulkWriteError as error:
        raise _concurrent_write(window) from error


def _documents(rows: pd.DataFrame, window: Document) -> Iterator[Document]:
    names = [name for name in _OUTCOME_FIELDS if name in rows.columns and name not in window]
    columns = [rows[name].tolist() for name in names]
    for values in zip(*columns, strict=True):
        yield window | dict(zip(names, values, strict=True))


def _read(
    store: Store,
    collection: Collection[Document],
    fields: dict[str, pyarrow.DataType],
    query: Document,
    model_version: str | None,
) -> pd.DataFrame:
    if model_version is not None:
        query["model_version"] = model_version
    frame = _find(collection, fields, query | _unfinished(store, collection))
    return frame.sort_values(["as_of", "model_version", "rank"], kind="stable", ignore_index=True)


def _unfinished(store: Store, collection: Collection[Document]) -> Document:
    """A condition that leaves out windows that are being written."""
    windows = store.prediction_windows.find({"collection": collection.name, "state": "writing"})
    excluded = [{name: entry[name] for name in ("as_of", "model_version")} for entry in windows]
    return {"$nor": excluded} if excluded else {}


def _find(
    collection: Collection[Document], fields: dict[str, pyarrow.DataType], query: Document
) -> pd.DataFrame:
    from pymongoarrow.api import Schema, find_arrow_all

    table = find_arrow_all(collection, query, schema=Schema(fields), projection={"_id": 0})
    frame: pd.DataFrame = table.select(list(fields)).to_pandas()
    return frame
