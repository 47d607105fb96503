"""Decode request bodies into validated items, so that one bad item never affects the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec

from bentos.json_shape import is_list, oversized_items, without_items
from bentos.messages import MAX_ITEMS, FeatureValue, PredictItem, RunReport
from bentos.problems import FieldError, Problem, from_msgspec, from_retail, invalid
from retail_core import sources
from retail_core.errors import InputError, RetailError
from retail_core.features.event_columns import OnlineEvent, event_from_document
from retail_core.ingest.documents import event_documents
from retail_core.times import parse_instant, to_utc_ms

EventRow = dict[str, object]
Value = TypeVar("Value")
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError)
"""What msgspec raises for bytes that are not JSON, not of the type, or not UTF-8."""

DECODE_SECONDS = 0.002
"""How long the items of a list are decoded before other requests run."""

UNREADABLE = "unreadable"
"""Name under which the quarantine has the problem of an event that is no JSON object; its text could hold
the id of a user who is erased later."""

_item_decoder = msgspec.json.Decoder(PredictItem)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_row_decoder = msgspec.json.Decoder(dict[str, object])
_report_decoder = msgspec.json.Decoder(RunReport)
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


@dataclass(frozen=True)
class DecodedRows:
    """The events of a request in order.

    Attributes:
        rows: as sent; in place of one that is no JSON object, its problem as `UNREADABLE`.
        errors: of those, by position.
    """

    rows: Sequence[EventRow]
    errors: Mapping[int, FieldError] = field(default_factory=dict)


async def decode_items(body: bytes, now: datetime) -> tuple[list[DecodedItem | RejectedItem], bool]:
    """The items of a body in order, and whether it is a list; `now` is the default cut-off.

    Raises:
        Problem: the body is not JSON, exceeds a limit, or is an empty list.
    """
    if not is_list(body):
        oversized_items(body, MAX_ITEMS)
        return [_decode_item(body, now)], False

    def decode(raw_item: bytes | Problem) -> DecodedItem | RejectedItem:
        if isinstance(raw_item, Problem):
            return RejectedItem(None, raw_item)
        return _decode_item(raw_item, now)

    return await _decode_each(_split_list(body, MAX_ITEMS), decode), True


async def decode_event_rows(body: bytes, limit: int) -> DecodedRows:
    """The canonical events of a body: one object or a list of up to `limit`.

    Raises:
        Problem: the body is not JSON, exceeds a limit, has no event, or is neither an object nor a list.
    """
    if not is_list(body):
        oversized_items(body, limit)
        try:
            return DecodedRows([_row_decoder.decode(body)])
        except DECODE_ERRORS as error:
            raise from_msgspec(error) from error
    rows: list[EventRow] = []
    errors: dict[int, FieldError] = {}
    for position, row in enumerate(await _decode_each(_split_list(body, limit), _decode_row)):
        if isinstance(row, Problem):
            errors[position] = FieldError(f"[{position}]", row.detail)
            rows.append({UNREADABLE: row.detail})
        else:
            rows.append(row)
    return DecodedRows(rows, errors)


def _split_list(body: bytes, limit: int) -> list[bytes | Problem]:
    """The JSON text of each item of a list, or the problem of an item that exceeds a limit.

    Raises:
        Problem: the body is not JSON, exceeds a limit, or is an empty list.
    """
    oversized = oversized_items(body, limit)
    try:
        raw_items = _list_decoder.decode(without_items(body, oversized) if oversized else body)
    except DECODE_ERRORS as error:
        raise from_msgspec(error) from error
    if not raw_items:
        raise invalid("", f"a list has 1 to {limit} items, this one 0")
    return [
        invalid("", oversized[position].rule) if position in oversized else bytes(raw_item)
        for position, raw_item in enumerate(raw_items)
    ]


async def _decode_each(
    raw_items: Sequence[bytes | Problem], decode: Callable[[bytes | Problem], Value]
) -> list[Value]:
    """Decode each item; other requests run in between."""
    values, pause_at = [], time.perf_counter() + DECODE_SECONDS
    for raw_item in raw_items:
        values.append(decode(raw_item))
        if time.perf_counter() > pause_at:
            await asyncio.sleep(0)
            pause_at = time.perf_counter() + DECODE_SECONDS
    return values


def _decode_row(raw_row: bytes | Problem) -> EventRow | Problem:
    if isinstance(raw_row, Problem):
        return raw_row
    try:
        return _row_decoder.decode(raw_row)
    except DECODE_ERRORS as error:
        return from_msgspec(error)


def decode_run_report(body: bytes) -> RunReport:
    """The report of a run.

    Raises:
        Problem: the body is not JSON, exceeds a limit, or is no such report.
    """
    try:
        oversized_items(body, MAX_ITEMS)
        return _report_decoder.decode(body)
    except DECODE_ERRORS as error:
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
    except DECODE_ERRORS as error:
        return RejectedItem(_user_id(body), _feature_problem(body) or from_msgspec(error))
    except InputError as error:
        return RejectedItem(_user_id(body), invalid("as_of", error.message))
    except Problem as problem:
        return RejectedItem(_user_id(body), problem)
    return DecodedItem(item.user_id, as_of, item.features, item.events, item.reasons)


def _feature_problem(body: bytes) -> Problem | None:
    """The problem of the first invalid feature value; msgspec does not name the key of a mapping."""
    with suppress(*DECODE_ERRORS, KeyError):
        for name, value in _object_decoder.decode(_object_decoder.decode(body)["features"]).items():
            try:
                _value_decoder.decode(value)
            except msgspec.ValidationError as error:
                return invalid(f"features.{name}", str(error))
    return None


def _user_id(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(_object_decoder.decode(body)["user_id"], type=str)
    except (*DECODE_ERRORS, KeyError):
        return None
