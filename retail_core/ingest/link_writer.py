"""Store the identity links of one window in MongoDB; storing them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from retail_core.sources.identity_links import distinct_links
from retail_core.sources.refusals import Refusal
from retail_core.sources.source import Chunk
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.identities import StoredLink, add_links


def store_links(
    store: Store, chunk: Chunk, conflicts: Iterable[Refusal], file_ids: Sequence[str], source: str
) -> int:
    """Store the links of a window; returns the number of links that are new or changed.

    Args:
        store: the database.
        chunk: the window.
        conflicts: refusals of its events whose id exists with another content; their rows link nothing.
        file_ids: `_id` of the files that have the rows, or of the channel.
        source: name of the source.
    """
    if not len(chunk.links):
        return 0
    lines = {refused.line for refused in conflicts}
    rows = [row for row, line in enumerate(chunk.lines.tolist()) if line in lines] if lines else []
    links = [StoredLink(*link) for link in distinct_links(chunk.links, rows)]
    return add_links(store, links, file_ids, source)


def added_fields(users: int, links: int, events: Sequence[Document]) -> dict[str, object]:
    """What a window's document has beside the counts of its rows.

    `links` and `newest_event`, the newest time of the new `events`, only where there are any.
    """
    newest = max((event["event_time"] for event in events), default=None)
    return (
        {"users": users}
        | ({"links": links} if links else {})
        | ({"newest_event": newest} if newest is not None else {})
    )
