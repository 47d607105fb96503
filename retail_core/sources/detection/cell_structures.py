"""Cells with several values: the parts of a cell that are item, quantity and amount, and lists of events."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from retail_core.sources.detection.amounts import is_number
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.event_names import canonical_event

GOODS, EVENT = "goods", "event"
"""Names of the proposed lists."""

_SEPARATOR, _PART = ",", ";"
_MAX_PARTS = 8
_MAX_CELLS = 500
_WHOLE = re.compile(r"^\d{1,6}$")
_FUNNEL = (
    "purchase", "refund", "begin_checkout", "add_to_cart", "remove_from_cart", "add_to_wishlist", "search",
    "view_item", "view_item_list", "screen_view", "session_start",
)  # fmt: skip


@dataclass(frozen=True)
class GoodsCells:
    """A column of cells such as `;SKU-1;2;19.98,;SKU-2;1;5`.

    Attributes:
        fields: name of each part: `sku`, `quantity` and `total` where they are recognised, else `part1`, ...
        names: event field by recognised part.
    """

    fields: tuple[str, ...]
    names: dict[str, str]


def goods_cells(column: Column) -> GoodsCells | None:
    """The parts of the cells of an item column; None if most cells have no parts."""
    cells = list(column.counts)[:_MAX_CELLS]
    elements = [element.split(_PART) for cell in cells for element in cell.split(_SEPARATOR)]
    width = max(map(len, elements), default=0)
    multipart_cells = sum(len(part_values) > 1 for part_values in elements)
    if column.list_path is not None or multipart_cells * 2 < len(elements) or not 1 < width <= _MAX_PARTS:
        return None
    part_values = [_part(elements, place) for place in range(width)]
    sku = next(
        (place for place, values in enumerate(part_values) if len(values) >= 0.9 * len(elements)), None
    )
    if sku is None or _is_list(part_values, sku):
        return None
    cells_of_goods = _named_parts(part_values, sku)
    return None if cells_of_goods.fields == ("sku",) else cells_of_goods


def _is_list(part_values: Sequence[Sequence[str]], sku: int) -> bool:
    """Whether the parts are several ids: values of the first one stand at other places too."""
    first = set(part_values[sku])
    later_values = {value for values in part_values[sku + 1 :] for value in values}
    return bool(later_values) and len(first & later_values) * 2 >= min(len(first), len(later_values))


def _part(elements: Sequence[Sequence[str]], place: int) -> list[str]:
    """The values of one part of the elements that have it."""
    return [row[place].strip() for row in elements if place < len(row) and row[place].strip()]


def _named_parts(part_values: Sequence[Sequence[str]], sku: int) -> GoodsCells:
    fields = [f"part{place + 1}" for place in range(len(part_values))]
    fields[sku] = "sku"
    names = {"item_id": "sku"}
    for place, values in enumerate(part_values[sku + 1 :], sku + 1):
        if "quantity" not in names and values and all(map(_WHOLE.match, values)):
            fields[place], names["quantity"] = "quantity", "quantity"
        elif "price" not in names and values and all(map(is_number, values)):
            fields[place], names["price"] = "total", "total"
    used = max(place for place, field in enumerate(fields) if not field.startswith("part"))
    return GoodsCells(tuple(fields[: used + 1]), names)


def event_codes(column: Column) -> Counter[str]:
    """How often each value occurs in the cells of a column of event lists."""
    codes: Counter[str] = Counter()
    for cell, count in column.counts.items():
        codes.update(dict.fromkeys(filter(None, map(str.strip, cell.split(_SEPARATOR))), count))
    return codes


def known_events(codes: Counter[str]) -> list[str]:
    """The known event names among the values of event lists, the last step of a purchase first."""
    meanings = {code: canonical_event(code) for code in codes}
    funnel_codes = [code for code, meaning in meanings.items() if meaning in _FUNNEL]
    return sorted(funnel_codes, key=lambda code: _FUNNEL.index(str(meanings[code])))
