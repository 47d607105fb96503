"""Write docs/features.md from the definitions: `python -m retail_core.features.docs docs/features.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from retail_core.features.definitions import FEATURE_FAMILIES, expand_definitions
from retail_core.features.feature_set import default_feature_set, feature_specification
from retail_core.features.formulas import INTENT_RECENCY, INTENT_WEIGHTS
from retail_core.features.kinds import Derived, FeatureDefinition, FeatureFamily
from retail_core.features.prediction_task import PredictionTask

MARK = "<!-- measured from here on -->"

_RECIPES = """\
## Changing features

[CONTRIBUTING](../CONTRIBUTING.md#add-a-feature) has the steps to add a feature, an event key and a kind of
feature. Models trained before keep their feature set. Never change what an existing name means: its kind and
windows are part of the hash that models store (`tests/unit/features/test_feature_set.py`).
"""

_INTRODUCTION = """\
# Features

Generated from `retail_core/features/definitions.py` by
`python -m retail_core.features.docs docs/features.md`, except for the last part, which is measured. Do not
edit the generated part.

Every feature is one number about one user at one cut-off t (`as_of`). It uses the user's events with
t - look-back <= event_time < t and nothing else. A window of w holds t - w <= event_time < t; a day is
exactly 24 hours, also when clocks change. The windows are those of 1h, 6h, 1d, 3d, 7d, 28d and 91d that are
shorter than the look-back, and the look-back itself: {windows} for the default of {lookback} days.
{count} features in total.

- Money is in minor units (hundredths). The value of an event is price times quantity, the quantity 1
  where it is unknown, limited to 10^13. An event without a price has no value.
- A session ends when 30 minutes or more pass without an event. The first event within the look-back
  starts one. A session is counted in the windows that contain its start.
- An active day is a 24-hour block [t - (k+1) x 24 h, t - k x 24 h) with an event.
- An order is the `order_id` of a purchase, or the purchase itself where it has none.
- An `add_to_cart` is open at t unless a later event before t closes it: another add of the same item
  (which replaces it), a removal or a purchase of the same item, or a purchase that names no item.
  At the same instant adds come before removals before purchases, then event ids decide. Additions that
  name no item are treated as one item.
- Null is NaN in frames and null in JSON.
"""


def markdown() -> str:
    """The generated part of the page."""
    task = PredictionTask()
    labels = ", ".join(window.label for window in task.windows)
    lines = [
        _INTRODUCTION.format(
            windows=labels, lookback=task.lookback_days, count=len(default_feature_set(task).names)
        ),
        *(line for family in FEATURE_FAMILIES for line in _family(family, task)),
        "## Formulas",
        "",
        *_formulas(task),
        "",
        "`purchase_intent` adds, for every event, the weight of its type times the recency of every window",
        "that contains it; windows nest, so an event of the last hour counts in all of them.",
        "",
        "| type | weight |",
        "|---|---|",
        *(f"| `{name}` | {weight} |" for name, weight in INTENT_WEIGHTS.items()),
        "",
        "| window | recency |",
        "|---|---|",
        *(f"| {label} | {factor} |" for label, factor in INTENT_RECENCY.items()),
        "",
        "## User attributes",
        "",
        "`attr_<name>` is a number as of t, null where unknown. `attr_<name>=<category>` is 1 where the",
        "attribute has that value as of t, else 0. As of t is the user's latest row with `valid_from` <= t;",
        "rows without `valid_from` count in `first-visit` rows only.",
        "",
        _RECIPES,
    ]
    return "\n".join(lines)


def _family(family: FeatureFamily, task: PredictionTask) -> Iterator[str]:
    yield f"## {family.name.capitalize()}"
    yield ""
    yield family.meaning
    yield ""
    yield "| feature | over | unit | meaning | null where |"
    yield "|---|---|---|---|---|"
    yield from (_row(definition, task) for definition in family.definitions)
    yield ""


def _row(definition: FeatureDefinition, task: PredictionTask) -> str:
    windows = [feature.window for feature in definition.expand(task.windows)]
    over = ", ".join(window.label for window in windows if window) or "-"
    name = f"`{definition.name}`{'_*window*' if definition.over else ''}"
    return f"| {name} | {over} | {definition.unit} | {definition.meaning} | {definition.null} |"


def _formulas(task: PredictionTask) -> Iterator[str]:
    for feature in expand_definitions(task).values():
        if isinstance(feature.kind, Derived) and feature.name != "purchase_intent":
            yield f"- `{feature_specification(task, feature)}`"


def with_measured(measured: str) -> str:
    """The generated part, the mark, then the measured part."""
    return f"{markdown()}{MARK}\n\n{measured}"


def renewed(document: str) -> str:
    """`document` with its generated part renewed; the measured part after the mark stays."""
    return with_measured(document.partition(f"{MARK}\n\n")[2])


if __name__ == "__main__":
    _path = Path(sys.argv[1])
    _path.write_text(renewed(_path.read_text()))
