"""Identity links in raw rows: two ids that are one person from a time on; see `docs/identity.md`.

A row with an anonymous and a logged-in id gives a link at its event time. A row whose event type is one of
`LinkColumns.events` (identify, alias) gives a link and is no event. The columns that hold the ids are an
option of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retail_core.arrow_compute import pc

if TYPE_CHECKING:
    from retail_core.arrays import IntArray

LINKS_ARROW = pa.schema(
    [
        pa.field("from_id", pa.string(), nullable=False),
        pa.field("to_id", pa.string(), nullable=False),
        pa.field("linked_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("row", pa.int64()),
    ]
)
"""Links of a window; `row` is the position of the event that gave the link, null for an identity event."""


@dataclass(frozen=True)
class LinkColumns:
    """Where a source's rows have the ids of one person.

    Attributes:
        anonymous: raw columns of the anonymous id; of several, the first with a value is used.
        logged_in: raw columns of the logged-in id that precede those of the user id.
        previous: raw columns of the earlier id of an alias event.
        events: raw event types of rows that give a link and are no events.
        strict: whether an identity event without both ids is refused instead of left out.
        of_format: whether the columns belong to the format itself rather than to a mapping; then they are
            no part of the hash of the source's options.
    """

    anonymous: tuple[str, ...] = ()
    logged_in: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    strict: bool = False
    of_format: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All raw columns of ids."""
        return (*self.anonymous, *self.logged_in, *self.previous)

    def options(self) -> dict[str, object]:
        """The options a mapping sets, for the hash of a source's options; empty at their defaults."""
        if self.of_format:
            return {}
        return {name: value for name, value in asdict(self).items() if value}


def no_links() -> pa.Table:
    """A table of `LINKS_ARROW` without rows."""
    return LINKS_ARROW.empty_table()


def link_table(
    from_ids: pa.Array, to_ids: pa.Array, instants: pa.Array, rows: IntArray | None = None
) -> pa.Table:
    """Links of the records that have two different ids and a time, as `LINKS_ARROW`.

    Args:
        from_ids: earlier ids, text, shape (records,).
        to_ids: later ids.
        instants: times in milliseconds since 1970 UTC.
        rows: position of the event of each record; None for identity events.
    """
    present = pc.and_(pc.and_(from_ids.is_valid(), to_ids.is_valid()), instants.is_valid())
    differ = pc.and_(present, pc.fill_null(pc.not_equal(from_ids, to_ids), False))
    positions = pa.nulls(len(from_ids), pa.int64()) if rows is None else pa.array(rows, pa.int64())
    columns = [
        from_ids,
        to_ids,
        instants.cast(pa.int64()).cast(LINKS_ARROW.field("linked_at").type),
        positions,
    ]
    return pa.table([column.filter(differ) for column in columns], schema=LINKS_ARROW)


def distinct_links(links: pa.Table, without_rows: Sequence[int] = ()) -> list[tuple[str, str, datetime]]:
    """The earliest (from_id, to_id, linked_at) of each pair of ids, sorted; times are aware datetimes.

    Args:
        links: a table of `LINKS_ARROW`.
        without_rows: events whose links do not count.
    """
    if without_rows:
        excluded = np.isin(links["row"].fill_null(-1).to_numpy(), list(without_rows))
        links = links.filter(pa.array(~excluded))
    earliest = links.group_by(["from_id", "to_id"]).aggregate([("linked_at", "min")])
    ordered = earliest.sort_by([("from_id", "ascending"), ("to_id", "ascending")])
    columns = (ordered[name].to_pylist() for name in ("from_id", "to_id", "linked_at_min"))
    return list(zip(*columns, strict=True))
