"""Raw files -> MongoDB, idempotently and resumably. `ingest` stores; `read_events` only reads."""

from retail_core.ingest.posted import store_events
from retail_core.ingest.replay import ReplayReport, replay
from retail_core.ingest.run import IngestReport, ingest
from retail_core.sources.read import read_events

__all__ = ["IngestReport", "ReplayReport", "ingest", "read_events", "replay", "store_events"]
