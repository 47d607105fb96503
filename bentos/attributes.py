"""What was known of one user at an instant, by the same rule as in batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

BEGINNING = datetime.min.replace(tzinfo=UTC)


def attributes_at(
    rows: Sequence[Mapping[str, object]], as_of: datetime, *, undated: bool
) -> dict[str, object]:
    """The attributes of the latest row with `valid_from` <= as_of; nothing where there is none.

    Args:
        rows: documents of `users` of one user: `valid_from` (aware or None), `attributes` (JSON text).
        as_of: t, aware.
        undated: whether rows without `valid_from` count, as known from the beginning (first visits).
    """
    known = [row for row in rows if _begins(row) <= as_of and (undated or _begins(row) != BEGINNING)]
    if not known:
        return {}
    latest = max(known, key=lambda row: (_begins(row), str(row["attributes"])))
    attributes: dict[str, object] = json.loads(str(latest["attributes"]))
    return attributes


def _begins(row: Mapping[str, object]) -> datetime:
    valid_from = row.get("valid_from")
    return valid_from if isinstance(valid_from, datetime) else BEGINNING
