"""Store events of API requests in MongoDB, each request in a window that can be repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retail_core.ingest.link_writer import added_fields, store_links
from retail_core.ingest.window_writer import (
    insert_window,
    prepare_window,
    quarantine_refusals,
    row_format_of,
)
from retail_core.sources.event_reader import parse_rows
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.refusals import Refusal
from retail_core.sources.source import Source
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import Store, server_time
from retail_core.store.mongo.ledger import IngestionRun
from retail_core.store.mongo.quarantine import RefusalOrigin
from retail_core.store.mongo.row_counts import RowCounts


@dataclass(frozen=True)
class StoredRows:
    """Result of storing the rows of a request.

    Attributes:
        counts: of the rows.
        refused: refusals whose `line` is the position in the rows, from 1.
        notes: values that were left out or changed in stored events.
        unread_fields: names in the rows that are no field of an event, sorted; a source that stores every
            column keeps their values under `properties`.
        links: number of identity links that are new or changed.
    """

    counts: RowCounts
    refused: list[Refusal]
    notes: ParseNotes
    unread_fields: tuple[str, ...]
    links: int = 0


def store_events(
    store: Store, rows: Sequence[Mapping[str, object]], source: Source, *, channel: str = "api"
) -> StoredRows:
    """Store rows of a request in one window, acknowledged by a majority of MongoDB's members.

    Refused rows and rows with a conflicting id are returned and put into quarantine, like those of files.
    Storing the same rows again adds neither events nor quarantined rows.

    Args:
        store: the database.
        rows: JSON objects: canonical events, or raw rows of another source.
        source: dialect of the rows.
        channel: how the rows came, part of the ledger's id.

    Raises:
        IntegrityError: the counts do not add up; nothing was committed.
    """
    window = prepare_window(parse_rows(rows, source), source.name)
    run = IngestionRun(f"{channel}:{source.name}", channel, identity_rule=source.identity.rule)
    row_format = row_format_of(window.chunk, source)
    window_id = ledger.open_window(store, run, (1, len(rows)), row_format).window_id
    inserted = insert_window(store, window, window_id)
    refused = [*window.chunk.refused, *inserted.conflicts]
    if refused:
        at = server_time(store)
        # Each request counts as a file: a row that an earlier request brought is not stored twice.
        file_id = f"{run.file_id}:{window_id}"
        origin = RefusalOrigin(file_id, channel, source.name, window_id, at, row_format)
        quarantine_refusals(store, refused, origin, inserted.counts)
    links = store_links(store, window.chunk, inserted.conflicts, [run.file_id], source.name)
    notes, added = (
        window.chunk.notes.of_file(channel),
        added_fields(inserted.users, links, inserted.new_events),
    )
    ledger.commit_window(store, run, window_id, inserted.counts, last=len(rows), added=added, notes=notes)
    return StoredRows(inserted.counts, refused, window.chunk.notes, _unread_fields(rows, source), links)


def _unread_fields(rows: Sequence[Mapping[str, object]], source: Source) -> tuple[str, ...]:
    read = {"properties", *source.mapped_columns()}
    return tuple(sorted({name for row in rows for name in row if name not in read}))
