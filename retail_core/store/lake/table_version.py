"""Which rows of a table of the lake were read, as it is stored with a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retail_core.store.lake.applied_windows import Ranges


@dataclass(frozen=True)
class TableVersion:
    """One version of a Delta table.

    Attributes:
        version: Delta version.
        table_id: Delta's id of the table; a table that was deleted and created again has another.
        windows: ledger windows that are in it, as inclusive ranges.
        rows: number of rows.
        digest: hash of the rows, which does not depend on their order or on the files.
    """

    version: int
    table_id: str
    windows: Ranges
    rows: int
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as stored with a model."""
        return {
            "version": self.version,
            "table_id": self.table_id,
            "windows": [list(window_range) for window_range in self.windows],
            "rows": self.rows,
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TableVersion:
        """Inverse of `to_dict`."""
        windows = tuple((int(first), int(last)) for first, last in content["windows"])
        return cls(
            int(content["version"]), content["table_id"], windows, int(content["rows"]), content["digest"]
        )
