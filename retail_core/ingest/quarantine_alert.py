"""Whether a file has an unusual share of refused rows, compared with the earlier files of its source."""

from __future__ import annotations

from retail_core.alerts.alert import Alert, AlertKind
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.row_counts import RowCounts

MIN_REFUSED = 10
"""Refused rows below which a file is never unusual."""

_FIRST_FILE_LIMIT = 0.10
_MIN_LIMIT = 0.02
_ODDS_RATIO = 3.0
_MIN_EARLIER_ROWS = 1_000


def quarantine_limit(earlier: RowCounts) -> float:
    """Share of refused rows from which a file is unusual.

    Three times the odds of the source's earlier files, at least 2 %; 10 % with fewer than 1,000 earlier rows.

    >>> quarantine_limit(RowCounts(rows_read=100_000, quarantined=25_000))
    0.5
    """
    if earlier.rows_read < _MIN_EARLIER_ROWS:
        return _FIRST_FILE_LIMIT
    odds = _ODDS_RATIO * earlier.quarantined / max(earlier.rows_read - earlier.quarantined, 1)
    return max(odds / (1 + odds), _MIN_LIMIT)


def quarantine_alert(file_id: str, name: str, counts: RowCounts, earlier: RowCounts) -> Alert | None:
    """The alert for a file of which unusually many rows were refused, or None.

    Args:
        file_id: of the file in the ledger.
        name: of the file.
        counts: of its rows.
        earlier: of all earlier files of the source.
    """
    share = counts.quarantined / counts.rows_read if counts.rows_read else 0.0
    if counts.quarantined < MIN_REFUSED or share < quarantine_limit(earlier):
        return None
    usual = f"{earlier.quarantined / earlier.rows_read:.2%}" if earlier.rows_read else "none ingested"
    return Alert(
        AlertKind.QUARANTINE,
        file_id,
        f"{share:.1%} of the rows of {name} were refused",
        f"{counts.quarantined:,} of {counts.rows_read:,} rows are in quarantine; earlier files of this "
        f"source: {usual}.",
        "`retail quarantine list` shows the rules and the rows. Correct the mapping or the export, then "
        "`retail quarantine replay`.",
    )


def earlier_counts(store: Store, source: str) -> RowCounts:
    """Counts of all files of a source that were ingested completely."""
    stages: list[dict[str, object]] = [
        {"$match": {"kind": "file", "state": "done", "source": source}},
        {
            "$group": {
                "_id": None,
                "rows_read": {"$sum": "$counts.rows_read"},
                "quarantined": {"$sum": "$counts.quarantined"},
            }
        },
    ]
    groups = list(store.ledger.aggregate(stages))
    return (
        RowCounts(**{name: groups[0][name] for name in ("rows_read", "quarantined")})
        if groups
        else RowCounts()
    )
