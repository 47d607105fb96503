"""From bytes to checked items: one bad item never spoils another."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from bentos.problems import Problem, from_msgspec, from_retail, invalid
from bentos.wire import MAX_ITEMS, FeatureValue, PredictItem
from retail_core import sources
from retail_core.errors import InputError, RetailError
from retail_core.features.online.event_columns import OnlineEvent, event_from_document
from retail_core.ingest.documents import event_documents
from retail_core.times import parse_instant, to_utc_ms

Row = dict[str, object]

_item = msgspec.json.Decoder(PredictItem)
_items = msgspec.json.Decoder(list[msgspec.Raw])
_row = msgspec.json.Decoder(dict[str, object])
_rows = msgspec.json.Decoder(list[dict[str, object]])
_value = msgspec.json.Decoder(FeatureValue | None)
_named = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True)
class Item:
    """A decoded item with its instant; `rows` are the events of the request as sent."""

    user_id: str
    as_of: datetime
    features: dict[str, float | None] | None
    rows: list[Row] | None
    reasons: bool = False


@dataclass(frozen=True)
class Refused:
    """An item that cannot be answered, and whose it was where that could be read."""

    user_id: str | None
    problem: Problem


def items(body: bytes, now: datetime) -> tuple[list[Item | Refused], bool]:
    """Items in order, and whether the body was a list.

    Raises:
        Problem: the body is no JSON, or a list that is too long or empty.
    """
    if body.lstrip()[:1] != b"[":
        return [_decode(body, now)], False
    try:
        raw = _items.decode(body)
    except msgspec.MsgspecError as error:
        raise from_msgspec(error) from error
    if not 1 <= len(raw) <= MAX_ITEMS:
        raise invalid("", f"a list has 1 to {MAX_ITEMS} items, this one {len(raw)}")
    return [_decode(bytes(one), now) for one in raw], True


def event_rows(body: bytes, limit: int) -> list[Row]:
    """Canonical events as posted, one or a list of them.

    Raises:
        Problem: no JSON, no objects, none or too many.
    """
    try:
        rows = _rows.decode(body) if body.lstrip()[:1] == b"[" else [_row.decode(body)]
    except msgspec.MsgspecError as error:
        raise from_msgspec(error) from error
    if not 1 <= len(rows) <= limit:
        raise invalid("", f"a request has 1 to {limit} events, this one {len(rows)}")
    return rows


def sent_events(item: Item) -> list[OnlineEvent]:
    """The events of the request, through the same rules as a canonical file.

    Raises:
        Problem: the first event that breaks a rule, with its field.
    """
    rows = [{"user_id": item.user_id, **row} for row in item.rows or ()]
    for position, row in enumerate(rows):
        if row["user_id"] != item.user_id:
            raise invalid(f"events[{position}].user_id", f"is not the item's user_id {item.user_id!r}")
    if not rows:
        return []
    try:
        frame, refused = sources.parse_events(rows, sources.get("canonical"))
    except RetailError as error:
        raise from_retail(error) from error
    if refused:
        first = refused[0]
        where = f"events[{first.line - 1}]" + (f".{first.field}" if first.field else "")
        raise invalid(where, f"{first.rule} (value {first.value!r}): {first.remedy}")
    return [event_from_document(document) for document in event_documents(frame, "canonical")]


def _decode(body: bytes, now: datetime) -> Item | Refused:
    try:
        item = _item.decode(body)
        if item.events is not None and item.features is not None:
            raise invalid("features", "give `events` or `features`, not both")
        as_of = parse_instant(item.as_of) if item.as_of is not None else to_utc_ms(now)
    except msgspec.MsgspecError as error:
        return Refused(_user(body), _wrong_feature(body) or from_msgspec(error))
    except InputError as error:
        return Refused(_user(body), invalid("as_of", error.message))
    except Problem as problem:
        return Refused(_user(body), problem)
    return Item(item.user_id, as_of, item.features, item.events, item.reasons)


def _wrong_feature(body: bytes) -> Problem | None:
    """The first feature whose value is none: of an object's entries the decoder does not say which."""
    with suppress(msgspec.MsgspecError, KeyError):
        for name, value in _named.decode(_named.decode(body)["features"]).items():
            try:
                _value.decode(value)
            except msgspec.ValidationError as error:
                return invalid(f"features.{name}", str(error))
    return None


def _user(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(_named.decode(body)["user_id"], type=str)
    except (msgspec.MsgspecError, KeyError):
        return None
