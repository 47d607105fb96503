"""What a mapping says of event types and goods, in whole cells and in cells with several values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retail_core.sources.detection.cell_structures import (
    EVENT,
    GOODS,
    event_codes,
    goods_cells,
    known_events,
)
from retail_core.sources.detection.column_names import words
from retail_core.sources.detection.columns import Column
from retail_core.sources.detection.event_names import canonical_event
from retail_core.sources.detection.event_types import (
    ORDER_COMMENT,
    EventTypes,
    PurchaseFlag,
    describe_types,
    purchase_flag,
    purchases_only,
)
from retail_core.sources.detection.mapping_builder import MappingBuilder
from retail_core.sources.detection.roles import FieldGuess

NO_PURCHASE = "No event type of the sample is a purchase; a model needs purchases."


def add_event_types(
    builder: MappingBuilder, path: Path, fields: Mapping[str, FieldGuess], columns: Sequence[Column]
) -> None:
    """Propose the meaning of event types, or that every row is a purchase."""
    guess = fields.get("event_type")
    if guess is None:
        if flag := purchase_flag(columns, fields):
            _add_purchase_flag(builder, flag)
        elif evidence := purchases_only(path, fields, columns):
            builder.set("constants", {"event_type": "purchase"}, f"no column of event types, but {evidence}")
            builder.ask(
                "constants.event_type",
                "Is every row a purchase? There is no column of event types; canceled orders and returns, "
                "if the file has them, need `drop:` or `refunds:`.",
            )
        return
    if guess.columns[0].holds_lists:
        _add_event_list(builder, guess.columns[0])
        return
    types = describe_types(guess.columns[0])
    if types.vocabulary:
        builder.set("event_types", dict(types.vocabulary), types.comment)
    _ask_about_types(builder, guess.columns[0], types)


def _add_purchase_flag(builder: MappingBuilder, flag: PurchaseFlag) -> None:
    builder.columns()["event_type"] = flag.name
    builder.comments["columns.event_type"] = "no column of event types, but a mark of purchases"
    builder.set("event_types", dict(flag.vocabulary), "by the values of the mark")
    builder.ask(
        "event_types",
        f"Is a row a purchase where {flag.name} is {flag.true}? The other rows are read as {flag.other}.",
        alternatives=(f"event_types: {{'{flag.false}': null}}: the other rows are left out",),
    )


def name_orders(builder: MappingBuilder) -> None:
    """In a file of orders, a unique column that is only named `id` is the order, not the event."""
    columns = builder.columns()
    by_status = builder.comments.get("event_types", "").startswith(ORDER_COMMENT)
    if "constants" not in builder.mapping and not by_status:
        return
    name = columns.get("event_id")
    if isinstance(name, str) and words(name) == ["id"] and "order_id" not in columns:
        columns["order_id"] = columns.pop("event_id")
        builder.comments["columns.order_id"] = (
            f"each row is an order; {builder.comments.pop('columns.event_id')}"
        )


def _ask_about_types(builder: MappingBuilder, column: Column, types: EventTypes) -> None:
    if types.unsure:
        states = ", ".join(types.unsure)
        builder.ask(
            "event_types", f"Column {column.name} has states of orders. Do these mean a purchase: {states}?"
        )
    if types.refunded:
        shown = ", ".join(types.refunded)
        builder.ask(
            "event_types",
            f"Orders with the state {shown} are refunds at the time of their row, and their purchase is not "
            "in the log. Is that the time of the refund? If it is that of the order, keep the purchase.",
            alternatives=tuple(f"event_types: {{{name}: purchase}}" for name in types.refunded),
        )
    if types.unknown:
        shown = ", ".join(f"{name} ({count:,})" for name, count in types.unknown[:12])
        builder.ask(
            "event_types",
            f"These event types are kept under their own name: {shown}. Map those that mean a known type; "
            "map those that are no act of a user to null.",
        )
    if "purchase" not in types.canonical:
        builder.warnings.append(NO_PURCHASE)


def _add_event_list(builder: MappingBuilder, column: Column) -> None:
    """Cells with several event types: the known one that is nearest to a purchase is proposed."""
    codes = event_codes(column)
    known_codes = known_events(codes)
    shown = ", ".join(f"{code} ({count:,})" for code, count in codes.most_common(15))
    builder.ask(
        f"lists.{EVENT}",
        f"Column {column.name} holds several values in a cell: {shown}. Which one is the event type "
        "of its row? List them under first_of, the most important first, and what they mean in event_types.",
    )
    if not known_codes:
        builder.warnings.append(NO_PURCHASE)
        return
    builder.columns()["event_type"] = EVENT
    builder.add_list(EVENT, {"column": column.name, "first_of": known_codes})
    meanings = {code: canonical_event(code) for code in known_codes}
    builder.set("event_types", {code: meaning for code, meaning in meanings.items() if meaning != code})


def add_goods(builder: MappingBuilder, fields: Mapping[str, FieldGuess]) -> None:
    """Cells with several products: propose their parts, where no other list is exploded."""
    guess = fields.get("item_id")
    exploded = any(column.list_path for other in fields.values() for column in other.columns)
    cells = None if guess is None or exploded else goods_cells(guess.columns[0])
    if guess is None or cells is None:
        return
    builder.add_list(GOODS, {"column": guess.names[0], "fields": list(cells.fields)})
    for name, part in cells.names.items():
        builder.columns()[name] = f"{GOODS}[].{part}"
        builder.comments[f"columns.{name}"] = f"the part of {guess.names[0]} that looks like it"
    builder.ask(
        f"lists.{GOODS}",
        f"Column {guess.names[0]} holds goods with parts, such as {next(iter(guess.columns[0].counts))!r}. "
        "Are the parts named rightly? If the amount is that of all pieces, add `price_per: line`.",
    )
