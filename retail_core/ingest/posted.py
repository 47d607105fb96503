"""Events that come one by one instead of in files, through the same windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retail_core.ingest.window import Prepared, insert_events, insert_users, prepare, set_aside, written
from retail_core.sources.read import parse_rows
from retail_core.sources.rules import Refusal
from retail_core.sources.source import Source
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import Store, server_time
from retail_core.store.mongo.ledger import Counts, Run
from retail_core.store.mongo.quarantine import Origin


def store_events(
    store: Store, rows: Sequence[Mapping[str, object]], source: Source, *, channel: str = "api"
) -> tuple[Counts, list[Refusal]]:
    """Store rows (canonical JSON objects, or raw rows of another source) durably; all in one window.

    The sender is told of refused rows and conflicting ids, and they go to quarantine as those of files do:
    a sender that does not listen loses nothing, and what the ledger counts can be found. Sending the same
    rows again stores nothing, there neither. A refusal's `line` is the row's place in `rows`, from 1.
    """
    window: Prepared = prepare(parse_rows(rows, source), source.name)
    run, how = Run(f"{channel}:{source.name}", channel), written(window.chunk, source)
    window_id = ledger.open_window(store, run, (1, len(rows)), how).window_id
    counts, conflicts = insert_events(store, window, window_id)
    users = insert_users(store, window, window_id)
    refused = [*window.chunk.refused, *conflicts]
    if refused:
        at = server_time(store)
        # Each request is a file of its own: a row that an earlier one brought is not there twice.
        place = Origin(f"{run.file_id}:{window_id}", channel, source.name, window_id, at, how)
        set_aside(store, refused, place, counts)
    ledger.commit_window(store, run, window_id, counts, last=len(rows), users=users)
    return counts, refused
