"""Raw files of many dialects -> events.

Use a preset (`get_preset`) or describe a source (`from_mapping`, `mapping_from_text`); see docs/sources.md.
"""

from retail_core.sources.event_reader import parse_events, read_events
from retail_core.sources.mapping import MappingError, from_mapping, mapping_from_text
from retail_core.sources.presets import PRESETS, get_preset
from retail_core.sources.refusals import Refusal
from retail_core.sources.source import Chunk, Source

__all__ = [
    "PRESETS",
    "Chunk",
    "MappingError",
    "Refusal",
    "Source",
    "from_mapping",
    "get_preset",
    "mapping_from_text",
    "parse_events",
    "read_events",
]
