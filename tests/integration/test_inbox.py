"""Files that arrive in the watched folder: read by their subfolder's mapping, set aside, or left alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retail_core.alerts.raising import newest_alerts
from retail_core.ingest.inbox import InboxFile, ingest_inbox
from retail_core.store.mongo.connection import Store

pytestmark = pytest.mark.integration

AT = datetime.now(UTC)
CANONICAL = "user_id,event_type,event_time\nu1,view_item,2025-01-01T10:00:00Z\n"
MAPPED = "who;when;what\nu2;2025-01-02 11:00:00;seen\n"
MAPPING = """
name: shop_export
delimiter: ";"
columns: {user_id: who, event_time: when, event_type: what}
event_types: {seen: view_item}
timezone: UTC
"""


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


def put(path: Path, content: str, *, age: timedelta = timedelta(minutes=5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    changed = (AT - age).timestamp()
    os.utime(path, (changed, changed))
    return path


def states(files: list[InboxFile]) -> dict[str, str]:
    return {file.file: file.state for file in files}


def test_each_subfolder_is_read_as_its_mapping_or_preset_says(store: Store, inbox: Path) -> None:
    put(inbox / "a.csv", CANONICAL)
    put(inbox / "shop" / "mapping.yaml", MAPPING)
    put(inbox / "shop" / "b.csv", MAPPED)
    read = ingest_inbox(store, inbox, at=AT)
    assert states(read) == {"a.csv": "ingested", "shop/b.csv": "ingested"}
    assert {event["user_id"] for event in store.events.find()} == {"u1", "u2"}
    assert (inbox / "done" / "a.csv").is_file()
    assert (inbox / "shop" / "done" / "b.csv").is_file()
    assert ingest_inbox(store, inbox, at=AT) == []


def test_a_bad_file_is_set_aside_with_a_note_and_blocks_no_other(store: Store, inbox: Path) -> None:
    put(inbox / "a.csv", "%PDF-1.4\n")
    put(inbox / "unknown" / "b.csv", CANONICAL)
    put(inbox / "z.csv", CANONICAL)
    read = ingest_inbox(store, inbox, at=AT)
    assert states(read) == {"a.csv": "refused", "z.csv": "ingested", "unknown/b.csv": "refused"}
    note = (inbox / "refused" / "a.csv.note.txt").read_text()
    assert "PDF" in note
    assert "Remedy:" in note
    assert (inbox / "unknown" / "refused" / "b.csv").is_file()
    assert {alert["kind"] for alert in newest_alerts(store, 9)} == {"quarantine"}
    assert len(newest_alerts(store, 9)) == 2
    put(inbox / "a.csv", "%PDF-1.5\n")
    ingest_inbox(store, inbox, at=AT)
    assert (inbox / "refused" / "a-2.csv").is_file()


def test_files_that_are_still_written_are_left(store: Store, inbox: Path) -> None:
    put(inbox / "new.csv", CANONICAL, age=timedelta(seconds=5))
    put(inbox / "upload.csv.part", CANONICAL)
    put(inbox / ".hidden", CANONICAL)
    read = ingest_inbox(store, inbox, at=AT)
    assert states(read) == {"new.csv": "unfinished", "upload.csv.part": "unfinished"}
    assert store.events.count_documents({}) == 0
    later = AT + timedelta(minutes=2)
    assert states(ingest_inbox(store, inbox, at=later))["new.csv"] == "ingested"


def test_files_that_cannot_be_moved_are_read_once(store: Store, inbox: Path) -> None:
    put(inbox / "a.csv", CANONICAL)
    put(inbox / "done", "a file where the folder would be")
    assert states(ingest_inbox(store, inbox, at=AT))["a.csv"] == "ingested"
    assert "a.csv" not in states(ingest_inbox(store, inbox, at=AT))


def test_a_missing_folder_has_no_files(store: Store, inbox: Path) -> None:
    assert ingest_inbox(store, inbox, at=AT) == []
