"""Raw dialects -> events. `get` a preset or describe a source with `from_mapping`; see docs/sources.md."""

from retail_core.sources.mapping import from_mapping
from retail_core.sources.presets import PRESETS, get
from retail_core.sources.read import parse_events, read_events
from retail_core.sources.rules import Refusal
from retail_core.sources.source import Chunk, Source

__all__ = ["PRESETS", "Chunk", "Refusal", "Source", "from_mapping", "get", "parse_events", "read_events"]
