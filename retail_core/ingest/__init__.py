"""Raw files and posted events -> MongoDB, idempotently and resumably."""

from retail_core.ingest.dry_run import DryRunReport, dry_run
from retail_core.ingest.ingestion import IngestReport, ingest
from retail_core.ingest.replay import ReplayReport, replay
from retail_core.ingest.request_events import store_events
from retail_core.ingest.undo import UndoReport, undo
from retail_core.sources.event_reader import read_events

__all__ = [
    "DryRunReport",
    "IngestReport",
    "ReplayReport",
    "UndoReport",
    "dry_run",
    "ingest",
    "read_events",
    "replay",
    "store_events",
    "undo",
]
