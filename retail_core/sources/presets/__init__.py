"""Presets: built-in descriptions of the raw files of shop systems, analytics tools and public data sets."""

from __future__ import annotations

from types import MappingProxyType

from retail_core.errors import InputError
from retail_core.sources.presets.app_profile import APP_PROFILE
from retail_core.sources.presets.canonical import CANONICAL
from retail_core.sources.presets.ga4 import GA4
from retail_core.sources.presets.link_files import IDENTITIES
from retail_core.sources.presets.online_retail import ONLINE_RETAIL
from retail_core.sources.presets.otto import OTTO
from retail_core.sources.presets.posthog import POSTHOG
from retail_core.sources.presets.public_logs import REES46, RETAILROCKET, TAOBAO
from retail_core.sources.presets.segment import SEGMENT
from retail_core.sources.presets.shopify import SHOPIFY
from retail_core.sources.presets.snowplow import SNOWPLOW
from retail_core.sources.presets.woocommerce import WOOCOMMERCE
from retail_core.sources.source import Source

PRESETS = MappingProxyType(
    {
        source.name: source
        for source in (
            CANONICAL,
            TAOBAO,
            REES46,
            RETAILROCKET,
            ONLINE_RETAIL,
            OTTO,
            GA4,
            APP_PROFILE,
            SEGMENT,
            POSTHOG,
            SNOWPLOW,
            SHOPIFY,
            WOOCOMMERCE,
            IDENTITIES,
        )
    }
)
"""Every preset by name."""

_SNOWPLOW_TABS = 100
"""Tabs from which on a line without known column names is an enriched event, which has 130."""

_DELIMITERS = ",\t;|"

RESERVED_NAMES = frozenset(
    {"canonical", "taobao", "rees46", "retailrocket", "online_retail", "otto", "ga4", "app_profile"}
)
"""Names that no mapping may have. Presets that came later take no name away from a mapping in use."""


def get_preset(name: str) -> Source:
    """The preset of that name.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"There is no source named {name!r}.", remedy=f"use one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def matching_preset(header: tuple[str, ...]) -> str | None:
    """Name of the preset whose columns a header has, or a first row without one; None if there is none."""
    other_than_canonical = [source for source in PRESETS.values() if source is not CANONICAL]
    for source in (*other_than_canonical, CANONICAL):
        if not source.missing_columns(header):
            return source.name
    if len(header) == 5 and header[3] in TAOBAO.vocabulary:
        return TAOBAO.name
    # A row of an enriched event, whichever delimiter it was split by.
    if ",".join(header).count("\t") >= _SNOWPLOW_TABS:
        return SNOWPLOW.name
    return None


def preset_of_line(line: str) -> tuple[str, str] | None:
    """Preset and delimiter that the first line of a text file fits; None if it fits no preset.

    >>> preset_of_line("timestamp;visitorid;event;itemid;transactionid")
    ('retailrocket', ';')
    """
    if line.count("\t") >= _SNOWPLOW_TABS:
        return SNOWPLOW.name, "\t"
    for delimiter in _DELIMITERS:
        fields = tuple(field.strip(' "') for field in line.rstrip("\r\n").split(delimiter))
        if len(fields) > 1 and (preset := matching_preset(fields)) is not None:
            return preset, delimiter
    return None
