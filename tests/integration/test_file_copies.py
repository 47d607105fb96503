"""Copies of an ingested file, packed or with other line breaks, are that file and are not read again."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.ingest import ingest, undo
from retail_core.sources.content_hashes import content_hashes
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ingested_files import find_file, find_undone

pytestmark = pytest.mark.integration

AT = datetime(2025, 3, 1, tzinfo=UTC)
HEADER = "event_id,user_id,event_time,event_type,item_id,price\n"
CANONICAL = sources.get_preset("canonical")


def _row(number: int) -> str:
    return f"e{number},u{number},2025-01-01T00:00:00Z,view_item,i{number},1.50\n"


def _file(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "".join(map(_row, range(10))))
    return path


def _copies(text: str) -> dict[str, bytes]:
    """Copies of a log by file name."""
    content = text.encode()
    return {
        "log.csv.gz": gzip.compress(content),
        "log.csv.zst": pa.Codec("zstd").compress(content, asbytes=True),
        "bom.csv": b"\xef\xbb\xbf" + content,
        "crlf.csv": content.replace(b"\n", b"\r\n"),
        "unended.csv": content.rstrip(b"\n"),
    }


def test_a_copy_of_an_ingested_file_is_that_file(store: Store, tmp_path: Path) -> None:
    text = HEADER + "".join(_row(number) for number in range(10))
    for name, content in {"plain.csv": text.encode(), **_copies(text)}.items():
        (tmp_path / name).write_bytes(content)
    mapping = tmp_path / "map.yaml"
    mapping.write_text("name: shop\nextends: canonical\n")
    shop, first = sources.from_mapping(mapping), tmp_path / "log.csv.gz"
    assert ingest(store, [first], shop, at=AT).events_inserted == 10
    others = [tmp_path / name for name in ("plain.csv", *_copies(text)) if name != first.name]
    report = ingest(store, others, shop, at=AT)
    assert (report.skipped_files, report.rows_read) == (len(others), 0)
    for path in others:
        with pytest.raises(InputError, match=r"as log.csv.gz .* source canonical instead of shop") as error:
            ingest(store, [path], CANONICAL, at=AT)
        assert str(path) in error.value.remedy
    assert store.events.count_documents({"source": "shop"}) == store.events.count_documents({}) == 10
    report = ingest(store, [tmp_path / "crlf.csv"], CANONICAL, at=AT, replace_earlier=True)
    assert (report.events_inserted, store.events.count_documents({})) == (10, 10)
    file = find_file(store, "absent", content_hashes(tmp_path / "bom.csv"))
    assert file is not None
    assert file["file"] == "crlf.csv"
    undo(store, file["_id"], at=AT + timedelta(hours=1))
    assert find_undone(store, "absent", content_hashes(first)) == file["_id"]


def test_a_copy_of_a_file_that_an_earlier_release_ingested_is_that_file(store: Store, tmp_path: Path) -> None:
    path = _file(tmp_path)
    ingest(store, [path], CANONICAL, at=AT)
    earlier = {"$unset": {"text_sha256": "", "identity_rule": "", "reading": "", "preset": ""}}
    store.ledger.update_many({"kind": "file"}, earlier)
    copy = tmp_path / "copy.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    assert ingest(store, [copy], CANONICAL, at=AT).skipped_files == 1
    with pytest.raises(InputError, match=r"source canonical"):
        ingest(store, [copy], replace(CANONICAL, name="shop"), at=AT)


def test_the_copy_of_an_unfinished_file_gives_duplicates(store: Store, tmp_path: Path) -> None:
    path = _file(tmp_path)
    ingest(store, [path], CANONICAL, at=AT)
    store.ledger.update_one({"kind": "file"}, {"$set": {"state": "running"}})
    copy = tmp_path / "copy.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    report = ingest(store, [copy], CANONICAL, at=AT)
    assert (report.rows_read, report.duplicates) == (10, 10)
    assert ingest(store, [path], CANONICAL, at=AT).rows_read == 0
