"""Predictions and their outcomes in MongoDB, replaced a window at a time.

A window is everything of one (as_of, model version). Its entry in `prediction_windows` says `writing`
from before the first document is touched until after the last one is stored; readers here leave such
windows out. A killed run therefore never shows a mix of old and new, and the next run of the same
window puts right whatever it left: rows that are stored as they should be stay, the others go.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
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
    """Make `frame` the whole of this window: users no longer in it disappear. Returns its rows.

    Args:
        store: the open store.
        frame: rows of `Prediction`, any order, possibly none; further columns are not stored.
        as_of: the cut-off of every row (cut to whole milliseconds).
        model_version: the version of every row.

    Raises:
        IntegrityError: a row belongs to another window, or another process wrote this one meanwhile.
        pandera.errors.SchemaErrors: the frame is no `Prediction`.
    """
    checked = Prediction.validate(frame.reset_index(drop=True), lazy=True)
    _check_window(checked, as_of, model_version)
    return _replace(store, store.predictions, checked, as_of, model_version)


def read_predictions(
    store: Store,
    *,
    as_of: datetime | None = None,
    before: datetime | None = None,
    model_version: str | None = None,
) -> DataFrame[Prediction]:
    """Stored predictions of whole windows, by as_of, model version and rank.

    Args:
        store: the open store.
        as_of: only this cut-off.
        before: only cut-offs strictly earlier.
        model_version: only this version.
    """
    wanted: Document = {}
    if as_of is not None:
        wanted["as_of"] = to_utc_ms(as_of)
    elif before is not None:
        wanted["as_of"] = {"$lt": to_utc_ms(before)}
    return cast(
        "DataFrame[Prediction]",
        _read(store, store.predictions, _PREDICTION_FIELDS, wanted, model_version),
    )


def write_outcomes(store: Store, frame: pd.DataFrame) -> int:
    """Replace the outcomes of each (as_of, model version) that `frame` has; others stay. Returns rows.

    Raises:
        IntegrityError: another process wrote one of these windows meanwhile.
        pandera.errors.SchemaErrors: the frame is no `Outcome`.
    """
    checked = Outcome.validate(frame.reset_index(drop=True), lazy=True)
    for _, rows in checked.groupby(["as_of", "model_version"], sort=True):
        as_of, version = rows["as_of"].iloc[0].to_pydatetime(), str(rows["model_version"].iloc[0])
        _replace(store, store.outcomes, rows, as_of, version)
    return len(checked)


def read_outcomes(
    store: Store, *, since: datetime | None = None, model_version: str | None = None
) -> DataFrame[Outcome]:
    """Matured predictions of whole windows with as_of >= `since`, by as_of, model version and rank."""
    wanted: Document = {} if since is None else {"as_of": {"$gte": to_utc_ms(since)}}
    return cast("DataFrame[Outcome]", _read(store, store.outcomes, _OUTCOME_FIELDS, wanted, model_version))


def _check_window(frame: pd.DataFrame, as_of: datetime, model_version: str) -> None:
    foreign = (frame["as_of"] != pd.Timestamp(to_utc_ms(as_of))) | (frame["model_version"] != model_version)
    if foreign.any():
        raise IntegrityError(
            f"{int(foreign.sum())} of {len(frame)} predictions are not of as_of {iso(as_of)} and "
            f"model version {model_version}.",
            remedy="replace one window at a time.",
        )


def _replace(
    store: Store, collection: Collection[Document], rows: pd.DataFrame, as_of: datetime, model_version: str
) -> int:
    as_of = to_utc_ms(as_of)
    window = {"as_of": as_of, "model_version": model_version}
    key = {"_id": f"{collection.name}:{iso(as_of)}:{model_version}"}
    mine = {"state": "writing", "run": uuid.uuid4().hex}
    claim = {"collection": collection.name, **window, **mine}
    done = {"$set": {"state": "whole", "rows": len(rows)}}
    with exclusive_lock(store.settings.home_dir / f"{collection.name}.lock"):
        store.prediction_windows.update_one(key, {"$set": claim}, upsert=True)
        kept = _remove_others(collection, rows, window)
        _insert(collection, _without(rows, kept), window)
        # The lock holds on this machine; these two find a writer on another one.
        counted = collection.count_documents(window) == len(rows)
        if not counted or store.prediction_windows.update_one(key | mine, done).modified_count != 1:
            raise _contended(window)
    return len(rows)


def _remove_others(collection: Collection[Document], rows: pd.DataFrame, window: Document) -> pd.Series:
    """Delete what is stored of the window and not among `rows`; the users whose rows stay."""
    fields = {
        name: kind for name, kind in _OUTCOME_FIELDS.items() if name in rows.columns and name not in window
    }
    stored = _find(collection, fields, window)
    both = stored.merge(rows, on="user_id", suffixes=("", "_wanted"))
    for name in fields.keys() - {"user_id"}:
        both = both[both[name] == both[f"{name}_wanted"]]
    kept = both["user_id"]
    gone = _without(stored, kept)["user_id"].tolist()
    if len(kept) == 0:
        collection.delete_many(window)
    for start in range(0, len(gone) if len(kept) else 0, CHUNK_ROWS):
        collection.delete_many(window | {"user_id": {"$in": gone[start : start + CHUNK_ROWS]}})
    return kept


def _without(frame: pd.DataFrame, users: pd.Series) -> pd.DataFrame:
    """The rows of other users, by hash: `Series.isin` on Arrow strings builds a Python list."""
    others: pd.DataFrame = frame[pd.Index(users).get_indexer(pd.Index(frame["user_id"])) < 0]
    return others


def _contended(window: Document) -> IntegrityError:
    return IntegrityError(
        f"Another machine wrote the window of as_of {iso(window['as_of'])}, model version "
        f"{window['model_version']}, at the same time; it is hidden until it is whole.",
        remedy="run the command again.",
    )


def _insert(collection: Collection[Document], rows: pd.DataFrame, window: Document) -> None:
    """Insert in user order, which keeps the unique index local, several batches in flight."""
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
        raise _contended(window) from error


def _documents(rows: pd.DataFrame, window: Document) -> Iterator[Document]:
    names = [name for name in _OUTCOME_FIELDS if name in rows.columns and name not in window]
    columns = [rows[name].tolist() for name in names]
    for values in zip(*columns, strict=True):
        yield window | dict(zip(names, values, strict=True))


def _read(
    store: Store,
    collection: Collection[Document],
    fields: dict[str, pyarrow.DataType],
    wanted: Document,
    model_version: str | None,
) -> pd.DataFrame:
    if model_version is not None:
        wanted["model_version"] = model_version
    unfinished = store.prediction_windows.find({"collection": collection.name, "state": "writing"})
    parts = [{"as_of": one["as_of"], "model_version": one["model_version"]} for one in unfinished]
    if parts:
        wanted["$nor"] = parts
    frame = _find(collection, fields, wanted)
    return frame.sort_values(["as_of", "model_version", "rank"], kind="stable", ignore_index=True)


def _find(
    collection: Collection[Document], fields: dict[str, pyarrow.DataType], wanted: Document
) -> pd.DataFrame:
    from pymongoarrow.api import Schema, find_arrow_all

    table = find_arrow_all(collection, wanted, schema=Schema(fields), projection={"_id": 0})
    frame: pd.DataFrame = table.select(list(fields)).to_pandas()
    return frame
