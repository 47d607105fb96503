"""Ingest the files that arrive in a watched folder, each in the way that its subfolder says.

A subfolder is named after a preset (`canonical`, `ga4`, ...) or contains `mapping.yaml`; files directly in
the folder are canonical. A file that was read moves to `done/` beside it, one that cannot be read to
`refused/` with a note; neither keeps the others from being read. In a folder that may not be written, files
stay where they are and are skipped once they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from retail_core import sources
from retail_core.alerts.alert import Alert, AlertKind
from retail_core.alerts.raising import deliver_due, store_alert
from retail_core.errors import DataError, InputError, IntegrityError, RetailError
from retail_core.ingest.ingestion import ingest
from retail_core.sources.source import Source
from retail_core.store.mongo.connection import Store
from retail_core.times import from_micros, iso

MAPPING_FILE = "mapping.yaml"
DONE, REFUSED = "done", "refused"
NOTE_SUFFIX = ".note.txt"

SETTLED = timedelta(seconds=60)
"""A file that was changed less than this long ago may still be written, and is left for a later run."""

_UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".filepart", ".crdownload", ".swp")


@dataclass(frozen=True)
class InboxFile:
    """What became of one file.

    Attributes:
        file: path relative to the watched folder.
        source: name of its source; None where the subfolder names none.
        state: `ingested`, `skipped` (stored before), `refused`, or `unfinished` (left for a later run).
        rows_read: as in `IngestReport`.
        events_inserted: as in `IngestReport`.
        quarantined: as in `IngestReport`.
        note: why it was refused, with the remedy.
    """

    file: str
    source: str | None
    state: str
    rows_read: int = 0
    events_inserted: int = 0
    quarantined: int = 0
    note: str = ""


def ingest_inbox(store: Store, inbox: Path, *, at: datetime) -> list[InboxFile]:
    """Ingest every settled file of the folder and its subfolders, in order of path.

    Args:
        store: the database.
        inbox: the watched folder; it may be missing.
        at: current time, aware.

    Returns:
        The files that were looked at, except those that are known to be stored.

    Raises:
        DependencyError: MongoDB failed; the same call later continues.
    """
    results = [
        _process(store, inbox, path, at) for path in _waiting_files(inbox) if not _is_stored(store, path)
    ]
    deliver_due(store, at=at)
    return results


def _waiting_files(inbox: Path) -> Iterator[Path]:
    """The files directly in the folder and in its subfolders, without those that are set aside or hidden."""
    if not inbox.is_dir():
        return
    subfolders = [
        path for path in sorted(inbox.iterdir()) if path.is_dir() and path.name not in {DONE, REFUSED}
    ]
    for folder in [inbox, *subfolders]:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith(".") and path.name != MAPPING_FILE:
                yield path


def _is_stored(store: Store, path: Path) -> bool:
    """Whether the file at this path was ingested after its last change; spares hashing it on each run."""
    changed = from_micros(path.stat().st_mtime_ns // 1_000)
    query = {"kind": "file", "path": str(path), "state": "done", "finished_at": {"$gt": changed + SETTLED}}
    return store.ledger.find_one(query, {"_id": 1}) is not None


def _process(store: Store, inbox: Path, path: Path, at: datetime) -> InboxFile:
    name = str(path.relative_to(inbox))
    changed = from_micros(path.stat().st_mtime_ns // 1_000)
    if at - changed < SETTLED or path.name.endswith(_UNFINISHED_SUFFIXES):
        return InboxFile(name, None, "unfinished")
    source: Source | None = None
    try:
        source = _source_of(inbox, path.parent)
        report = ingest(store, [path], source, at=at)
    except (InputError, DataError, IntegrityError) as error:
        refused = InboxFile(name, source.name if source else None, "refused", note=str(error))
        return _refuse(store, path, refused, error, at)
    _move(path, DONE)
    state = "skipped" if report.skipped_files else "ingested"
    counts = (report.rows_read, report.events_inserted, report.quarantined)
    return InboxFile(name, source.name, state, *counts)


def _source_of(inbox: Path, folder: Path) -> Source:
    """The source of the files in `folder`.

    Raises:
        InputError: the folder has no usable mapping and is not named after a preset.
    """
    if (folder / MAPPING_FILE).is_file():
        return sources.from_mapping(folder / MAPPING_FILE)
    return sources.get_preset("canonical" if folder == inbox else folder.name)


def _refuse(store: Store, path: Path, result: InboxFile, error: RetailError, at: datetime) -> InboxFile:
    """Set a file aside with a note beside it, and store the alert about it."""
    moved = _move(path, REFUSED)
    place = f"It is in {moved.parent} with a note." if moved else "It stays where it is."
    if moved:
        note = f"{path.name} was not ingested at {iso(at)}.\n{error.message}\nRemedy: {error.remedy}\n"
        moved.with_name(moved.name + NOTE_SUFFIX).write_text(note, encoding="utf-8")
    alert = Alert(
        AlertKind.QUARANTINE,
        f"{path}:{path.name if moved is None else moved.name}",
        f"The file {result.file} was not ingested",
        f"{error.message} {place}",
        f"{error.remedy} Then put the file back into the watched folder.",
    )
    store_alert(store, alert, at=at)
    return result


def _move(path: Path, folder_name: str) -> Path | None:
    """Move a file to a folder beside it, under a new name if needed; None where that is not permitted."""
    folder = path.parent / folder_name
    target, number = folder / path.name, 1
    try:
        folder.mkdir(exist_ok=True)
        while target.exists():
            number += 1
            target = folder / f"{path.stem}-{number}{path.suffix}"
        return path.rename(target)
    except OSError:
        return None
