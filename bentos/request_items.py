"""Decode request bodies into validated items, so that one bad item never affects the others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from bentos.messages import MAX_ITEMS, FeatureValue, PredictItem, RunReport
from bentos.problems import Problem, from_msgspec, from_retail, invalid
from retail_core import sources
from retail_core.errors import InputError, RetailError
from retail_core.features.event_columns import OnlineEvent, event_from_document
from retail_core.ingest.documents import event_documents
from retail_core.times import parse_instant, to_utc_ms

EventRow = dict[str, object]

_item_decoder = msgspec.json.Decoder(PredictItem)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_row_decoder = msgspec.json.Decoder(dict[str, object])
_report_decoder = msgspec.json.Decoder(RunReport)
_rows_decoder = msgspec.json.Decoder(list[dict[str, object]])
_value_decoder = msgspec.json.Decoder(FeatureValue | None)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True)
class DecodedItem:
    """A decoded item with its cut-off; `event_rows` are the events of the request as sent."""

    user_id: str
    as_of: datetime
    features: dict[str, float | None] | None
    event_rows: list[EventRow] | None
    reasons: bool = False


@dataclass(frozen=True)
class RejectedItem:
    """An item that is not valid, with its user id if that could be read."""

    user_id: str | None
    problem: Problem


def decode_items(body: bytes, now: datetime) -> tuple[list[DecodedItem | RejectedItem], bool]:
    """The items of a body in order, and whether it is a list; `now` is the default cut-off.

    Raises:
        Problem: the body is not JSON, or a list that is empty or too long.
    """
    if body.lstrip()[:1] != b"[":
        return [_decode_item(body, now)], False
    try:
        raw_items = _list_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise from_msgspec(error) from error
    if not 1 <= len(raw_items) <= MAX_ITEMS:
        raise invalid("", f"a list has 1 to {MAX_ITEMS} items, this one {len(raw_items)}")
    return [_decode_item(bytes(raw_item), now) for raw_item in raw_items], True


def decode_event_rows(body: bytes, limit: int) -> list[EventRow]:
    """The canonical events of a body: one object or a list of up to `limit`.

    Raises:
        Problem: the body is not JSON, holds something else than objects, no event or too many.
    """
    try:
        rows = _rows_decoder.decode(body) if body.lstrip()[:1] == b"[" else [_row_decoder.decode(body)]
    except msgspec.MsgspecError as error:
        raise from_msgspec(error) from error
    if not 1 <= len(rows) <= limit:
        raise invalid("", f"a request has 1 to {limit} events, this one {len(rows)}")
    return rows


def decode_run_report(body: bytes) -> RunReport:
    """The report of a run.

    Raises:
        Problem: the body is not JSON or no such report.
    """
    try:
        return _report_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise from_msgspec(error) from error


def parse_events(item: DecodedItem) -> list[OnlineEvent]:
    """The events of an item, parsed by the rules of a canonical file.

    Raises:
        Problem: of the first event that breaks a rule, with its field.
    """
    rows = [{"user_id": item.user_id, **row} for row in item.event_rows or ()]
    for position, row in enumerate(rows):
        if row["user_id"] != item.user_id:
            raise invalid(f"events[{position}].user_id", f"is not the item's user_id {item.user_id!r}")
    if not rows:
        return []
    try:
        frame, refused = sources.parse_events(rows, sources.get_preset("canonical"))
    except RetailError as error:
        raise from_retail(error) from error
    if refused:
        first = refused[0]
        field_path = f"events[{first.line - 1}]" + (f".{first.field}" if first.field else "")
        raise invalid(field_path, f"{first.rule} (value {first.value!r}): {first.remedy}")
    return [event_from_document(document) for document in event_documents(frame, "canonical")]


def _decode_item(body: bytes, now: datetime) -> DecodedItem | RejectedItem:
    try:
        item = _item_decoder.decode(body)
        if item.events is not None and item.features is not None:
            raise invalid("features", "give `events` or `features`, not both")
        as_of = parse_instant(item.as_of) if item.as_of is not None else to_utc_ms(now)
    except msgspec.MsgspecError as error:
        return RejectedItem(_user_id(body), _feature_problem(body) or from_msgspec(error))
    except InputError as error:
        return RejectedItem(_user_id(body), invalid("as_of", error.message))
    except Problem as problem:
        return RejectedItem(_user_id(body), problem)
    return DecodedItem(item.user_id, as_of, item.features, item.events, item.reasons)


def _feature_problem(body: bytes) -> Problem | None:
    """The problem of the first invalid feature value; msgspec does not name the key of a mapping."""
    with suppress(msgspec.MsgspecError, KeyError):
        for name, value in _object_decoder.decode(_object_decoder.decode(body)["features"]).items():
            try:
                _value_decoder.decode(value)
            except msgspec.ValidationError as error:
                return invalid(f"features.{name}", str(error))
    return None


def _user_id(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(_object_decoder.decode(body)["user_id"], type=str)
    except (msgspec.MsgspecError, KeyError):
        return None
