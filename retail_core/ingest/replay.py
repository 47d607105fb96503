"""Refused rows once more, with the rules and the mapping of now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from pymongo import UpdateOne

from retail_core.errors import IntegrityError
from retail_core.ingest.window import insert_events, insert_users, prepare, written
from retail_core.sources.csv_tables import rows_table
from retail_core.sources.parse import parse
from retail_core.sources.read import parse_json_lines
from retail_core.sources.records import RecordParser
from retail_core.sources.rules import Refusal
from retail_core.sources.source import Chunk, Source
from retail_core.store.mongo import ledger, quarantine
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ledger import Run

BATCH = 5_000


@dataclass(frozen=True)
class ReplayReport:
    """What became of the refused rows; rows_read = events_inserted + duplicates + quarantined.

    `rows` is how many raw rows were tried, of which some sources make several events each.
    """

    rows: int
    rows_read: int
    events_inserted: int
    duplicates: int
    quarantined: int
    seconds: float


def replay(
    store: Store, source: Source, *, at: datetime, progress: Callable[[str, int, int], None] | None = None
) -> ReplayReport:
    """Read every refused row of `source` again. What passes is stored and marked as replayed.

    The rest stays in quarantine with the reason of now. May be killed at any instant and run again.

    Raises:
        IntegrityError: counts do not add up.
    """
    started = time.perf_counter()
    about = {"kind": "replay", "file": "the quarantine", "source": source.name}
    run = ledger.begin(store, f"replay:{source.name}", about, at)
    if run is None:
        raise IntegrityError("A replay is never done.", remedy="remove its document from ingest_ledger.")
    before, rows = run.counts, 0
    waiting = store.quarantine.count_documents({"state": "refused", "source": source.name})
    with ledger.held(store, run):
        for header, batch in _batches(store, source, run):
            _replay_batch(store, source, run, (header, batch, at))
            rows += len(batch)
            if progress is not None:
                progress("replay", min(rows, waiting), waiting)
    done = run.counts - before
    return ReplayReport(
        rows=rows,
        rows_read=done.rows_read,
        events_inserted=done.inserted,
        duplicates=done.duplicates,
        quarantined=done.quarantined,
        seconds=round(time.perf_counter() - started, 3),
    )


def _batches(store: Store, source: Source, run: Run) -> Iterator[tuple[tuple[str, ...], list[Document]]]:
    """First the rows a killed replay left half done, then all others, each once, by header."""
    query: dict[str, Any] = {"source": source.name}
    if run.unfinished is not None:
        half = query | {"replay_window": run.unfinished}
        yield from _by_header(store, list(store.quarantine.find(half, sort=[("_id", 1)])))
    query["state"] = "refused"
    last = ""
    while found := list(
        store.quarantine.find(query | {"_id": {"$gt": last}}, sort=[("_id", 1)], limit=BATCH)
    ):
        last = found[-1]["_id"]
        yield from _by_header(store, found)


def _by_header(store: Store, batch: list[Document]) -> Iterator[tuple[tuple[str, ...], list[Document]]]:
    ids = sorted({document["window_id"] for document in batch})
    windows = store.ledger.find({"window_id": {"$in": ids}}, {"window_id": 1, "header": 1})
    headers = {window["window_id"]: tuple(window.get("header", ())) for window in windows}
    groups: dict[tuple[str, ...], list[Document]] = {}
    for document in batch:
        groups.setdefault(headers.get(document["window_id"], ()), []).append(document)
    yield from groups.items()


def _replay_batch(
    store: Store, source: Source, run: Run, work: tuple[tuple[str, ...], list[Document], datetime]
) -> None:
    header, batch, at = work
    texts = [_text(document, source) for document in batch]
    chunk = _parse_csv(texts, header, source) if header else parse_json_lines(texts, source)
    extent = (run.offset + 1, run.offset + len(batch))
    window_id = ledger.open_window(store, run, extent, written(chunk, source)).window_id
    keys = [document["_id"] for document in batch]
    store.quarantine.update_many({"_id": {"$in": keys}}, {"$set": {"replay_window": window_id}})
    window = prepare(chunk, source.name)
    counts, conflicts = insert_events(store, window, window_id)
    users = insert_users(store, window, window_id)
    _mark(store, batch, [*chunk.refused, *conflicts], at)
    ledger.commit_window(store, run, window_id, counts, last=run.offset + len(batch), users=users)


def _mark(store: Store, batch: list[Document], refused: Sequence[Refusal], at: datetime) -> None:
    """Rows of which something is still refused stay, with the first reason of now; the others are done."""
    reasons = {one.line - 1: quarantine.reason(one) for one in reversed(refused)}
    done = [document["_id"] for row, document in enumerate(batch) if row not in reasons]
    store.quarantine.update_many({"_id": {"$in": done}}, {"$set": {"state": "replayed", "replayed_at": at}})
    updates = [
        UpdateOne({"_id": batch[row]["_id"]}, {"$set": why})
        for row, why in reasons.items()
        if any(batch[row].get(name) != value for name, value in why.items())
    ]
    if updates:
        store.quarantine.bulk_write(updates, ordered=False)


def _text(document: Document, source: Source) -> str:
    raw: bytes | None = document.get("raw_bytes")
    if raw is None:
        return str(document["raw"])
    return raw.decode(source.layout.encoding, "surrogateescape")


def _parse_csv(texts: list[str], header: tuple[str, ...], source: Source) -> Chunk:
    """Each raw row is split alone, so that a broken one cannot swallow its neighbours."""
    parser = RecordParser(source.layout.delimiter, len(header), list)
    rows: list[list[str]] = []
    lines: list[int] = []
    refused: list[Refusal] = []
    for place, text in enumerate(texts):
        records = parser.parse(text.splitlines(keepends=True), 0)
        rows += records.rows
        lines += [place + 1] * len(records.rows)
        refused += [replace(one, line=place + 1) for one in records.refused]
    table = rows_table(rows, header, np.array(lines, dtype=np.int64), lambda row: texts[lines[row] - 1])
    return parse(replace(table, refused=(*refused, *table.refused)), source)
