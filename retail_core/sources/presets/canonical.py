"""The format of this project: columns named as the event fields."""

from __future__ import annotations

from retail_core.schemas import EVENT_COLUMNS
from retail_core.sources.identity import Identity
from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.source import Source

_CANONICAL_COLUMNS = [name for name in EVENT_COLUMNS if name not in {"price_minor", "properties"}]

CANONICAL = Source(
    name="canonical",
    columns={name: (name,) for name in [*_CANONICAL_COLUMNS, "price"]},
    properties=None,
    identity=Identity(of="values"),
    links=LinkColumns(anonymous=("anonymous_id",), of_format=True),
)
