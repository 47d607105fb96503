"""Replay quarantined rows: parse them again with the current rules and mapping, and store what is valid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from pymongo import UpdateOne

from retail_core.errors import InputError, IntegrityError
from retail_core.ingest.link_writer import added_fields, store_links
from retail_core.ingest.window_writer import insert_window, prepare_window, row_format_of
from retail_core.sources.csv_tables import RecordParser, rows_table
from retail_core.sources.event_parser import parse_table
from retail_core.sources.event_reader import parse_json_lines, with_repeat_numbers
from retail_core.sources.refusals import Refusal
from retail_core.sources.source import Chunk, Source
from retail_core.store.mongo import ledger, quarantine
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ledger import IngestionRun

REPLAY_BATCH = 5_000


@dataclass(frozen=True)
class ReplayReport:
    """Row counts of a replay; rows_read = events_inserted + duplicates + quarantined.

    Attributes:
        rows: raw rows that were parsed again; some sources make several events of one.
        rows_read: events and refusals of these rows.
        events_inserted: new events, or new rows of users of a source of users.
        duplicates: events that were stored before.
        quarantined: refusals.
        seconds: duration.
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
    """Parse every refused row of `source` again; store valid ones and mark them as replayed.

    Rows that are refused again stay in quarantine with the new reason. A killed replay can be repeated.

    Args:
        store: the database.
        source: dialect of the rows, possibly with a changed mapping.
        at: current time.
        progress: called with "replay", rows done and rows in total.

    Raises:
        InputError: no row of this source was ever refused, but rows of others are; or another replay of it is
            running.
        IntegrityError: the counts do not add up; the current window was not committed.
    """
    started = time.perf_counter()
    _refuse_unknown_source(store, source.name)
    description = {"kind": "replay", "file": "the quarantine", "source": source.name, "rows": source.rows}
    run = ledger.begin_run(store, f"replay:{source.name}", description, at)
    if run is None:
        raise IntegrityError("A replay is never done.", remedy="remove its document from ingest_ledger.")
    counts_before, rows = run.counts, 0
    refused_rows = store.quarantine.count_documents({"state": "refused", "source": source.name})
    with ledger.releasing_lease(store, run):
        for group, batch in _batches(store, source, run):
            _replay_batch(_Replay(store, source, run, at), group, batch)
            rows += len(batch)
            if progress is not None:
                progress("replay", min(rows, refused_rows), refused_rows)
    counts = run.counts - counts_before
    return ReplayReport(
        rows=rows,
        rows_read=counts.rows_read,
        events_inserted=counts.inserted,
        duplicates=counts.duplicates,
        quarantined=counts.quarantined,
        seconds=round(time.perf_counter() - started, 3),
    )


def _refuse_unknown_source(store: Store, name: str) -> None:
    """Raise InputError if rows are refused, but none of source `name`, also none that was replayed."""
    counts = quarantine.refused_by_source(store)
    if not counts or store.quarantine.find_one({"source": name}, {"_id": 1}):
        return
    listed = ", ".join(f"{source} ({count:,})" for source, count in counts.items())
    raise InputError(
        f"No refused row is of source {name}; the quarantine has rows of {listed}.",
        remedy="name one of these sources; a mapping replays the rows of the source with its name.",
    )


@dataclass(frozen=True)
class _RowGroup:
    """Quarantined rows with the same CSV header that the same files have."""

    header: tuple[str, ...]
    files: tuple[str, ...]


def _batches(store: Store, source: Source, run: IngestionRun) -> Iterator[tuple[_RowGroup, list[Document]]]:
    """Batches of refused rows by group, first those of an interrupted replay."""
    query: dict[str, Any] = {"source": source.name}
    if run.unfinished is not None:
        interrupted = query | {"replay_window": run.unfinished}
        yield from _by_group(store, list(store.quarantine.find(interrupted, sort=[("_id", 1)])))
    query["state"] = "refused"
    last_id = ""
    while documents := list(
        store.quarantine.find(query | {"_id": {"$gt": last_id}}, sort=[("_id", 1)], limit=REPLAY_BATCH)
    ):
        last_id = documents[-1]["_id"]
        yield from _by_group(store, documents)


def _by_group(store: Store, batch: list[Document]) -> Iterator[tuple[_RowGroup, list[Document]]]:
    ids = sorted({document["window_id"] for document in batch})
    windows = store.ledger.find({"kind": "window", "window_id": {"$in": ids}}, {"window_id": 1, "header": 1})
    headers = {window["window_id"]: tuple(window.get("header", ())) for window in windows}
    groups: dict[_RowGroup, list[Document]] = {}
    for document in batch:
        files = {document["file_id"], *(place["file_id"] for place in document.get("also", ()))}
        group = _RowGroup(headers.get(document["window_id"], ()), tuple(sorted(files)))
        groups.setdefault(group, []).append(document)
    yield from groups.items()


@dataclass(frozen=True)
class _Replay:
    store: Store
    source: Source
    run: IngestionRun
    at: datetime


def _replay_batch(replay: _Replay, group: _RowGroup, batch: list[Document]) -> None:
    store, source, run = replay.store, replay.source, replay.run
    texts = [_raw_text(document, source) for document in batch]
    chunk = _parse_csv(texts, group.header, source) if group.header else parse_json_lines(texts, source)
    if source.identity.repeats == "count":
        occurrences = np.array([_occurrence(document) for document in batch], np.int64)
        chunk = with_repeat_numbers(chunk, occurrences[chunk.lines - 1])
    extent = (run.offset + 1, run.offset + len(batch))
    window_id = ledger.open_window(store, run, extent, row_format_of(chunk, source), group.files).window_id
    keys = [document["_id"] for document in batch]
    store.quarantine.update_many({"_id": {"$in": keys}}, {"$set": {"replay_window": window_id}})
    joined = {keys[line - 1]: ids for line, ids in chunk.joined_user_ids.items()}
    quarantine.add_user_ids(store, joined)
    window = prepare_window(chunk, source.name)
    inserted = insert_window(store, window, window_id, check_v1=run.check_v1)
    _update_quarantine(store, batch, [*chunk.refused, *inserted.conflicts], replay.at)
    links = store_links(store, chunk, inserted.conflicts, group.files, source.name)
    last, notes = run.offset + len(batch), chunk.notes.of_file(run.name)
    added = added_fields(inserted.users, links, inserted.new_events)
    ledger.commit_window(store, run, window_id, inserted.counts, last=last, added=added, notes=notes)


def _occurrence(document: Document) -> int:
    """Which of the equal rows of its file the row is; the number is part of `row`."""
    return int(document["row"].partition(":")[2]) if "row" in document else 1


def _update_quarantine(store: Store, batch: list[Document], refused: Sequence[Refusal], at: datetime) -> None:
    """Mark rows without a refusal as replayed; store the first new reason of the others."""
    reasons = {refusal.line - 1: quarantine.reason_fields(refusal) for refusal in reversed(refused)}
    replayed = [document["_id"] for row, document in enumerate(batch) if row not in reasons]
    store.quarantine.update_many(
        {"_id": {"$in": replayed}}, {"$set": {"state": "replayed", "replayed_at": at}}
    )
    updates = [
        UpdateOne({"_id": batch[row]["_id"]}, {"$set": reason})
        for row, reason in reasons.items()
        if any(batch[row].get(name) != value for name, value in reason.items())
    ]
    if updates:
        store.quarantine.bulk_write(updates, ordered=False)


def _raw_text(document: Document, source: Source) -> str:
    raw: bytes | None = document.get("raw_bytes")
    if raw is None:
        return str(document["raw"])
    return raw.decode(source.layout.encoding, "surrogateescape")


def _parse_csv(texts: list[str], header: tuple[str, ...], source: Source) -> Chunk:
    """Parse each raw row on its own, so that a broken quotation mark does not affect the next row."""
    parser = RecordParser(source.layout, len(header), list)
    rows: list[list[str]] = []
    lines: list[int] = []
    refused: list[Refusal] = []
    for position, text in enumerate(texts):
        records = parser.parse(text.splitlines(keepends=True), 0)
        rows += records.rows
        lines += [position + 1] * len(records.rows)
        refused += [replace(refusal, line=position + 1) for refusal in records.refused]
    table = rows_table(rows, header, np.array(lines, dtype=np.int64), lambda row: texts[lines[row] - 1])
    return parse_table(replace(table, refused=(*refused, *table.refused)), source)
