"""The tables of the lake: columns of their files, partitions, the one column with statistics in the log."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from retail_core.schemas import EVENT_ARROW

_INSTANT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class TableSpec:
    """One Delta table below the lake's root.

    Attributes:
        name: folder of the table.
        files: columns of the data files.
        keys: columns that identify a row. Files are sorted by them.
        partitions: columns that are in the log and in the names of folders only.
        time: the one column whose smallest and largest values are in the log. Columns with ids have none
            there, so that an erased user is in no version of the log.
    """

    name: str
    files: pa.Schema
    keys: tuple[str, ...]
    partitions: tuple[pa.Field, ...] = ()
    time: str = "event_time"

    @property
    def schema(self) -> pa.Schema:
        """All columns of the table."""
        return pa.schema([*self.files, *self.partitions])


EVENTS = TableSpec(
    "events", EVENT_ARROW, ("user_id", "event_time", "event_id"), (pa.field("day", pa.date32()),)
)

USERS_ARROW = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("valid_from", _INSTANT),
        pa.field("attributes", pa.string(), nullable=False),
    ]
)
"""Columns of the lake's user attributes."""

USERS = TableSpec("users", USERS_ARROW, ("user_id", "valid_from", "attributes"), time="valid_from")

PREDICTIONS = TableSpec(
    "predictions",
    pa.schema(
        [
            pa.field("user_id", pa.string(), nullable=False),
            pa.field("as_of", _INSTANT, nullable=False),
            pa.field("policy", pa.string(), nullable=False),
            pa.field("probability", pa.float64(), nullable=False),
            pa.field("raw_score", pa.float64(), nullable=False),
            pa.field("rank", pa.int64(), nullable=False),
            pa.field("will_purchase", pa.bool_(), nullable=False),
            pa.field("contact", pa.bool_(), nullable=False),
        ]
    ),
    ("user_id", "as_of"),
    (pa.field("run_as_of", pa.string()), pa.field("model_version", pa.string())),
    time="as_of",
)
"""One partition per scoring run: the run's cut-off, such as `20250131T000000Z`, and the model version."""

IDENTITIES = TableSpec(
    "identities",
    pa.schema(
        [
            pa.field("from_id", pa.string(), nullable=False),
            pa.field("to_id", pa.string(), nullable=False),
            pa.field("linked_at", _INSTANT, nullable=False),
        ]
    ),
    ("from_id", "to_id"),
    time="linked_at",
)

TABLES = (EVENTS, USERS, IDENTITIES, PREDICTIONS)
USER_TABLES = (EVENTS, USERS, PREDICTIONS)
"""Those whose first key is `user_id`."""

READ_TABLES = (EVENTS, USERS, IDENTITIES)
"""Tables that features are computed from. Events are opened first: the others are committed before them."""
