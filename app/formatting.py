"""Numbers, instants and facts as text for people, each figure with its population."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PRESETS = {
    "canonical": "Canonical events, or features",
    "ga4": "Google Analytics 4 export, native or flattened",
    "taobao": "Taobao user behaviour",
    "rees46": "REES46 multi-category shop",
    "retailrocket": "Retailrocket",
    "online_retail": "UCI Online Retail",
    "otto": "OTTO sessions",
    "app_profile": "User table of an app",
    "segment": "Segment or RudderStack archive",
    "posthog": "PostHog export",
    "snowplow": "Snowplow enriched events",
    "shopify": "Shopify orders",
    "woocommerce": "WooCommerce orders",
}
"""Source preset -> its label on the page."""


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{value:,.0f}"


def share(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; n/a where it is None."""
    return "n/a" if value is None else f"{value:.{digits}%}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits; n/a where it is None."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def reasons(text: str) -> str:
    """Reasons of one user, with an arrow up or down for the effect of each."""
    marked = text.replace("; raises: ", "   ▲ ").replace("; lowers: ", "   ▼ ")
    return marked.replace("raises: ", "▲ ").replace("lowers: ", "▼ ")


def moment(text: str) -> str:
    """An ISO 8601 instant to the minute: `2025-02-14 09:30 UTC`."""
    return f"{text[:16].replace('T', ' ')} UTC"


def day(text: str) -> str:
    """The date of an ISO 8601 instant."""
    return text[:10]


def measured_on(metrics: Mapping[str, Any]) -> str:
    """Population, period and base rate of the metrics, in one sentence."""
    rows, buyers = metrics.get("n"), metrics.get("positives")
    facts = [
        f"{count(rows)} rows" if rows else None,
        f"{count(buyers)} of them buyers" if buyers is not None else None,
        f"base rate {share(metrics.get('base_rate'), 2)}",
        str(metrics["population"]) if metrics.get("population") else None,
        _period(metrics),
    ]
    return "Measured on " + " · ".join(fact for fact in facts if fact)


def prediction_task(task: Mapping[str, Any]) -> str:
    """What the model predicts: horizon, eligible users and look-back."""
    return (
        f"Will the user buy within {task['horizon_hours']} hours? Asked of users with an event in the last "
        f"{task['eligible_days']} days, looking back {task['lookback_days']} days."
    )


def certificate(content: Mapping[str, Any] | None, uncertified: str | None) -> str:
    """The recall that the contact threshold guarantees, or why none is certified."""
    if content is None:
        return f"No recall is certified: {uncertified or 'too few buyers'}."
    return (
        f"Contacting everyone at or above the threshold reaches at least {share(content['target'], 0)} of "
        f"the buyers, with {share(content['confidence'], 0)} confidence ({count(content['buyers'])} buyers "
        f"certified it)."
    )


def _period(metrics: Mapping[str, Any]) -> str | None:
    first, last = metrics.get("first_cutoff"), metrics.get("last_cutoff")
    return f"cut-offs {day(first)} to {day(last)}" if first and last else None


def escape_markdown(text: str) -> str:
    r"""`text` with every Markdown control character escaped.

    >>> escape_markdown("a [b](c)")
    'a \\[b\\]\\(c\\)'
    """
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:-])", r"\\\1", text)
