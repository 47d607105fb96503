"""PostHog: events of batch exports and file downloads, as JSON lines, Parquet or CSV.

Columns: https://posthog.com/docs/data-pipelines/batch-exports/s3 (model `events`)
Persons: https://posthog.com/docs/data/persons and https://posthog.com/docs/data/identify

The user is the person: a person has several distinct ids (the anonymous one of each device, and the one that
`identify` set), and `person_id` is the person at the time of the event, which no later merge changes. Exports
without persons have the distinct id only.
"""

from __future__ import annotations

from retail_core.sources.identity import Identity
from retail_core.sources.identity_links import LinkColumns
from retail_core.sources.presets.ecommerce_spec import (
    SPEC_COLUMNS,
    SPEC_EVENTS,
    SPEC_PROPERTIES,
    TOTALS,
    order_values,
)
from retail_core.sources.source import Source

_NO_ACT = (
    "$identify", "$create_alias", "$merge_dangerously", "$set", "$groupidentify", "$feature_flag_called",
    "$pageleave", "$web_vitals", "$$heatmap", "$snapshot", "$exception", "$opt_in",
)  # fmt: skip
"""Events about a person or a page that are no act of a user."""

POSTHOG = Source(
    name="posthog",
    columns=dict(SPEC_COLUMNS)
    | {
        "event_id": ("uuid",),
        "user_id": ("person_id", "distinct_id"),
        "event_time": ("timestamp",),
        "event_type": ("event",),
        "session_id": ("properties.$session_id",),
        "platform": ("properties.$os", "properties.$device_type"),
    },
    vocabulary=dict(SPEC_EVENTS)
    | {"$pageview": "screen_view", "$screen": "screen_view"}
    | dict.fromkeys(_NO_ACT),
    properties=("distinct_id", "properties.$screen_name", "properties.$pathname", *SPEC_PROPERTIES),
    needs=("uuid", "distinct_id", "event"),
    reads=TOTALS,
    prepare=order_values,
    identity=Identity(repeats="once_per_order"),
    links=LinkColumns(
        previous=("properties.$anon_distinct_id", "properties.alias"),
        events=("$identify", "$create_alias", "$merge_dangerously"),
        of_format=True,
    ),
)
"""The links serve exports without persons, where users are distinct ids."""
