"""Segment and RudderStack: the calls that their archives store as JSON lines.

Common fields: https://www.twilio.com/docs/segment/connections/spec/common and
https://www.rudderstack.com/docs/event-spec/standard-events/common-fields/
Archive: https://segment.com/docs/connections/storage/catalog/amazon-s3/ (gzip, one call a line)
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.sources.identity import Identity
from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.presets.ecommerce_spec import (
    SPEC_COLUMNS,
    SPEC_EVENTS,
    SPEC_PROPERTIES,
    TOTALS,
    order_values,
    text_column,
)
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source


def prepare_calls(table: RawTable, source: Source) -> RawTable:
    """Add the event type: the event's name for a `track` call, else the type of the call.

    RudderStack also fills `event` with the name of the screen of a `screen` call.
    """
    call, name = (text_column(table, source, column) for column in ("type", "event"))
    is_track = pc.fill_null(pc.equal(call, pa.scalar("track")), True)
    columns = dict(table.columns) | {"event_type": pc.if_else(is_track, name, call)}
    return order_values(replace(table, columns=columns), source)


SEGMENT = Source(
    name="segment",
    columns=dict(SPEC_COLUMNS)
    | {
        "event_id": ("messageId",),
        "user_id": ("userId", "anonymousId"),
        "event_time": ("timestamp", "originalTimestamp", "receivedAt"),
        "event_type": ("event_type",),
        "session_id": ("context.sessionId",),
        "platform": ("context.device.type", "channel"),
    },
    vocabulary=dict(SPEC_EVENTS)
    | {"page": "screen_view", "screen": "screen_view", "identify": None, "alias": None, "group": None},
    properties=("name", *SPEC_PROPERTIES),
    needs=("messageId", "type"),
    derived=("event_type",),
    reads=("event", "anonymousId", "previousId", *TOTALS),
    prepare=prepare_calls,
    identity=Identity(repeats="once_per_order"),
    links=LinkColumns(
        anonymous=("anonymousId",), previous=("previousId",), events=("identify", "alias"), of_format=True
    ),
)
"""`timestamp` is corrected for the clock of the device."""
