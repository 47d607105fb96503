"""Events that come one by one instead of in files, through the same windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retail_core.ingest.window import Prepared, insert_events, insert_users, prepare
from retail_core.sources.read import parse_rows
from retail_core.sources.rules import Refusal
from retail_core.sources.source import Source
from retail_core.store import ledger
from retail_core.store.ledger import Counts, Run
from retail_core.store.mongo import Store


def store_events(
    store: Store, rows: Sequence[Mapping[str, object]], source: Source, *, channel: str = "api"
) -> tuple[Counts, list[Refusal]]:
    """Store rows (canonical JSON objects, or raw rows of another source) durably; all in one window.

    Refused rows and conflicting ids go back to the sender, not to quarantine; `counts.quarantined` says
    how many. Sending the same rows again stores nothing and counts them as duplicates. A refusal's
    `line` is the row's place in `rows`, from 1.
    """
    window: Prepared = prepare(parse_rows(rows, source), source.name)
    run = Run(f"{channel}:{source.name}", channel)
    window_id = ledger.open_window(store, run, (1, len(rows))).window_id
    counts, conflicts = insert_events(store, window, window_id)
    users = insert_users(store, window, window_id)
    ledger.commit_window(store, run, window_id, counts, last=len(rows), users=users)
    return counts, [*window.chunk.refused, *conflicts]
