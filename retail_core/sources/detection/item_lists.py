"""Cells with several item ids, such as `A1|A2`, `A1;A2` and `['A1', 'A2']`, which a mapping splits.

JSON lists are no case of this module: their elements are columns of their own (`columns`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retail_core.sources.detection.cell_structures import GOODS
from retail_core.sources.detection.column_names import leaf, words
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.roles import FieldGuess

_SEPARATORS = ("|", ";", ",", "/", "+", " ")
_IN_MANY_IDS = frozenset({"/", "+", " "})
"""Separators that ids contain too often: they count only in brackets or where the parts are known ids."""

_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_QUOTES = "'\""
_PART = re.compile(r"^[^\s|;,]{1,64}$")
_PIECES = {sign: re.compile(rf"^[^{sign}]+[{sign}]\d{{1,3}}$") for sign in ":*="}
_MAX_CELLS = 2_000
_LIST_WORDS = frozenset({"list", "ids", "skus", "array", "set", "liste", "lista"})
_KNOWN_PARTS = 0.3
"""Share of the distinct parts that occur as ids elsewhere from which a cell is certainly a list."""


@dataclass(frozen=True)
class ItemList:
    """How the cells of a column of items list their ids.

    Attributes:
        separator: between the ids.
        strip: characters around a cell and its ids.
        cells: number of cells with several ids.
        example: one of them.
        quantity: sign between an id and its number of pieces; None where ids stand alone.
        certain: whether the values show that these are lists, not ids that contain the separator.
    """

    separator: str
    strip: str
    cells: int
    example: str
    certain: bool
    quantity: str | None = None

    def options(self, column: str) -> dict[str, object]:
        """The entry of a mapping under `lists`."""
        options: dict[str, object] = {"column": column, "separator": self.separator, "fields": ["sku"]}
        if self.quantity:
            options |= {"fields": ["sku", "quantity"], "field_separator": self.quantity}
        return options | ({"strip": self.strip} if self.strip else {})


def item_list(column: Column) -> ItemList | None:
    """How a column of items lists several in a cell; None if no cell has several."""
    if column.list_path is not None:
        return None
    cells = column.counts.most_common(_MAX_CELLS)
    strip = _strip(cells)
    for separator in _SEPARATORS:
        split = [
            (cell, [p.strip().strip(strip) for p in cell.strip(strip).split(separator)]) for cell, _ in cells
        ]
        several = [(cell, ids) for cell, ids in split if len(ids) > 1]
        well_formed = [(cell, ids) for cell, ids in several if all(map(_PART.match, ids))]
        if not well_formed or len(well_formed) < 0.9 * len(several):
            continue
        shown = bool(_BRACKETS.keys() & set(strip)) or _is_shown_by_values([ids for _, ids in split])
        if separator in _IN_MANY_IDS and not shown:
            continue
        certain = shown or _is_named_as_list(column)
        count = sum(column.counts[cell] for cell, _ in several)
        quantity = _quantity_sign([value for _, ids in well_formed for value in ids])
        return ItemList(separator, strip, count, several[0][0], certain, quantity)
    return None


def _quantity_sign(values: Sequence[str]) -> str | None:
    """The sign in `SKU-1:2` between an id and its number of pieces, if every value has it."""
    return next((sign for sign in ":*=" if all(_PIECES[sign].match(value) for value in values)), None)


def _strip(cells: Sequence[tuple[str, int]]) -> str:
    """Brackets and quotation marks around most cells with several values."""
    opening = Counter(cell[0] for cell, _ in cells if cell[0] in _BRACKETS and cell[-1] == _BRACKETS[cell[0]])
    brackets = "".join(mark + _BRACKETS[mark] for mark, count in opening.items() if count * 2 > len(cells))
    inner = [cell.strip(brackets) for cell, _ in cells]
    return brackets + "".join(
        mark for mark in _QUOTES if sum(text[:1] == mark == text[-1:] for text in inner) * 2 > len(inner)
    )


def _is_named_as_list(column: Column) -> bool:
    """Whether the column's name is a plural or says that it has lists."""
    name_words = words(leaf(column.name))
    return bool(_LIST_WORDS & set(name_words)) or (bool(name_words) and name_words[-1].endswith("s"))


def _is_shown_by_values(cells: Sequence[Sequence[str]]) -> bool:
    """Whether the parts of cells are ids elsewhere.

    A part of a composite id (`TS-1;red`) always stands at the same place, an id in a list at any.
    """
    singles = {ids[0] for ids in cells if len(ids) == 1}
    places_by_part: dict[str, set[int]] = {}
    for ids in cells:
        for place, part in enumerate(ids if len(ids) > 1 else ()):
            places_by_part.setdefault(part, set()).add(place)
    known_count = sum(part in singles or len(places) > 1 for part, places in places_by_part.items())
    return known_count >= _KNOWN_PARTS * len(places_by_part)


def add_item_lists(
    builder: MappingBuilder, fields: Mapping[str, FieldGuess], columns: Sequence[Column]
) -> None:
    """Propose to split the cells of the item column, and ask; other columns are not split with them."""
    guess = fields.get("item_id")
    exploded = any(column.list_path for field in fields.values() for column in field.columns)
    items = None if guess is None or exploded or GOODS in builder.lists() else item_list(guess.columns[0])
    if guess is None or items is None:
        return
    name = guess.names[0]
    shown = f"In {items.cells:,} cells column {name} holds several values, such as {items.example[:60]!r}."
    split = f"lists: {{{GOODS}: {{column: {name}, separator: {items.separator!r}, fields: [sku]}}}}"
    if not items.certain:
        builder.ask(
            "columns.item_id",
            f"{shown} Are these several items? They are proposed as one id.",
            alternatives=(f'{split} and item_id: "{GOODS}[].sku"',),
        )
        return
    builder.add_list(GOODS, items.options(name))
    builder.columns()["item_id"] = f"{GOODS}[].sku"
    builder.comments["columns.item_id"] = f"each value in a cell of {name}"
    if items.quantity:
        builder.columns()["quantity"] = f"{GOODS}[].quantity"
        builder.comments["columns.quantity"] = f"the number after {items.quantity!r}"
    builder.ask(
        f"lists.{GOODS}",
        f"{shown} Each becomes an event of its own. Is that right?",
        alternatives=(f"item_id: {name}, without lists: a cell is one id",),
    )
    if parallel := _parallel_columns(guess.columns[0], items, columns):
        builder.warnings.append(
            f"Column {' and '.join(parallel)} has one value for each item of {name} in a cell: a mapping "
            "splits one column, so that these are not read. Write one line for each item to use them."
        )
        for field_name in [f for f, other in fields.items() if set(other.names) & set(parallel)]:
            builder.columns().pop(field_name, None)


def _parallel_columns(column: Column, items: ItemList, columns: Sequence[Column]) -> list[str]:
    """Columns whose cells have as many values as those of the items."""
    widths = {
        row: cell.count(items.separator)
        for row, cell in zip(column.rows, column.values, strict=True)
        if items.separator in cell
    }
    parallel = []
    for other in columns:
        if other is column or other.list_path is not None:
            continue
        counts = [
            text.count(items.separator) == widths[row]
            for row, text in zip(other.rows, other.values, strict=True)
            if row in widths
        ]
        if counts and sum(counts) > 0.9 * len(counts):
            parallel.append(other.name)
    return parallel


def add_row_amounts(builder: MappingBuilder, fields: Mapping[str, FieldGuess]) -> None:
    """A price outside the list that is exploded is that of all its elements together: ask about it."""
    price = fields.get("price")
    if "quantity" in builder.columns() and _is_outside_list(builder, "quantity"):
        name = builder.columns().pop("quantity")
        builder.warnings.append(
            f"{name} counts the pieces of a row that becomes several events: it is not read."
        )
    if price is None or "price" not in builder.columns() or not _is_outside_list(builder, "price"):
        return
    builder.set("price_per", "row", f"{price.names[0]} stands once for all items of a row")
    builder.ask(
        "price_per",
        f"Is {price.names[0]} the amount of all items of a row together? It is divided among their pieces.",
        alternatives=("price_per: unit, if it is the price of each item",),
    )


def _is_outside_list(builder: MappingBuilder, field: str) -> bool:
    """Whether a list is exploded, and the columns of `field` are not in it."""
    paths = {name: [str(path) for path in _as_list(value)] for name, value in builder.columns().items()}
    exploded = any("[]" in path for names in paths.values() for path in names)
    return exploded and not any("[]" in path for path in paths[field])


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]
