"""What the log says about a data file, and the error of one that is damaged."""

from __future__ import annotations

from dataclasses import dataclass

from retail_core.errors import IntegrityError


@dataclass(frozen=True)
class LakeFile:
    """A data file: path below its table, rows, bytes, partition values, first and last time of its rows.

    Times are microseconds since 1970 UTC; None where the rows have no time.
    """

    path: str
    rows: int
    size: int
    partition: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None


class DamagedFileError(IntegrityError):
    """A data file that is not what was committed; `damage` names it and says how."""

    def __init__(self, damage: str) -> None:
        super().__init__(
            f"{damage}.",
            remedy="run `retail lake rebuild`, which writes the lake anew from MongoDB.",
        )
