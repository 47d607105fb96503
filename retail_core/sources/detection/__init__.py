"""Recognise the dialect of an unknown log, or propose a mapping for it; nothing is stored.

`detect` is the entry point. It reads the beginning of a file: `file_layout` finds encoding, delimiter and
header, `columns` lists the columns and nested paths, `roles` assigns them to event fields, `proposal` makes a
mapping of them, and `trial` reads the first window with it as an ingest would.
"""

from retail_core.sources.detection.detect import Detection, detect

__all__ = ["Detection", "detect"]
