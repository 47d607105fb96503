"""A file of identity links: every row says that `from_id` is the person `to_id` from `linked_at` on."""

from __future__ import annotations

from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.source import Source

_LINK = "link"

IDENTITIES = Source(
    name="identities",
    columns={"user_id": ("to_id",), "event_time": ("linked_at",)},
    constants={"event_type": _LINK},
    needs=("from_id", "to_id", "linked_at"),
    links=LinkColumns(previous=("from_id",), events=(_LINK,), strict=True),
)
