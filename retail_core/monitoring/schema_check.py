"""Trigger `schema`: whether types, fields, platforms or vocabularies of the log have changed."""

from __future__ import annotations

from retail_core.monitoring.schema_changes import ALARMS_PER_YEAR, SchemaComparison
from retail_core.monitoring.trigger_check import Action, TriggerCheck, insufficient

SCHEMA = "schema"
LIMIT = 1.0
_NAMED_CHANGES = 8


def check_schema(comparison: SchemaComparison) -> TriggerCheck:
    """Whether anything has changed; `value` is the number of changes.

    Args:
        comparison: of the newest whole days with those before.
    """
    if comparison.unavailable:
        return insufficient(SCHEMA, LIMIT, Action.ALERT, comparison.unavailable)
    changes = comparison.changes
    population = (
        f"{comparison.shares:,} shares of {len(comparison.days)} whole days up to {comparison.days[-1]}, "
        f"{ALARMS_PER_YEAR:g} false alarms a year"
    )
    listed = "; ".join(map(str, changes[:_NAMED_CHANGES]))
    more = f"; and {len(changes) - _NAMED_CHANGES} more" if len(changes) > _NAMED_CHANGES else ""
    evidence = f"{population}: {listed}{more}" if changes else f"{population}: no change"
    return TriggerCheck(SCHEMA, bool(changes), float(len(changes)), LIMIT, None, Action.ALERT, evidence)
