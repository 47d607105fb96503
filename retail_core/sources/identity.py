"""The option of a source that says which rows are the same event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

IdentityRule = Literal["v1", "values", "row", "columns"]
"""How event ids were made, as the ledger records it; `v1` is how release 0.1.0 made them."""


@dataclass(frozen=True)
class Identity:
    """Which rows without an event id are the same event.

    Attributes:
        of: `row` compares the raw rows; `values` the parsed event, for a source that reads every column.
        columns: raw columns that identify an event, instead of the whole row; rows without any value in
            them are compared as a whole.
        repeats: `duplicates` stores equal rows once; `count` stores the nth equal row of a file, or of the
            contiguous rows of an order, as an event of its own; `once_per_order` also takes a purchase for a
            duplicate if the same user has one with the same order id at another time, or of the same item.
        order: raw columns of a format whose rows of one order are contiguous: first the key, then those
            that have one value in all rows of an order; `count` counts within such rows.
        spellings: the column that another one is a spelling of, so that both give one id.
        numbers: columns of numbers, in which decimals of 0 do not matter.
        of_format: whether the columns belong to the format itself rather than to a mapping; then they are no
            part of the hash of the source's options.
    """

    of: Literal["row", "values"] = "row"
    columns: tuple[str, ...] = ()
    repeats: Literal["duplicates", "count", "once_per_order"] = "duplicates"
    spellings: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    of_format: bool = False

    @property
    def rule(self) -> IdentityRule:
        """The rule that event ids are made with."""
        return "columns" if self.columns else self.of

    def options(self) -> dict[str, object]:
        """The options a mapping sets, for the hash of a source's options; empty at their defaults."""
        options: dict[str, object] = (
            {"columns": list(self.columns)} if self.columns and not self.of_format else {}
        )
        return options | ({"repeats": self.repeats} if self.repeats != "duplicates" else {})
