"""Formats that are refused by name, and the probable encoding in the message of an ingest."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.compressed_files import file_kind

HEADER = "user_id,event_time,event_type\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "is an Excel workbook (.xls)"),
        (b"SQLite format 3\x00....", "is an SQLite database"),
        (b"Obj\x01....", "is an Avro file"),
        (b"ORC\x08\x03....", "is an ORC file"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"ARROW1\x00\x00", "is an Arrow (Feather) file"),
        (b"Rar!\x1a\x07\x01\x00", "is packed as rar"),
        (b"\n  <!DOCTYPE html><html><title>Login</title>", "is an HTML page"),
        (b"\xef\xbb\xbf<html>", "is an HTML page"),
        (b'<?xml version="1.0"?><Workbook>', "is an XML file"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        file_kind(path)
    assert message in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["[Content_Types].xml", "xl/workbook.xml"], "is an Excel workbook (.xlsx)"),
        (["mimetype", "content.xml"], "is an OpenDocument spreadsheet (.ods)"),
        (
            ["a/1.json.gz", "a/2.json.gz", "a/3.json.gz", "a/4.json.gz"],
            "4 files (a/1.json.gz, a/2.json.gz, a/3.json.gz, ...)",
        ),
        (["log.csv"], "is packed as zip."),
    ],
)
def test_archives_are_refused_by_their_content(tmp_path: Path, members: list[str], message: str) -> None:
    path = tmp_path / "log.csv"
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, "x")
    with pytest.raises(InputError) as caught:
        file_kind(path)
    assert message in caught.value.message


@pytest.mark.parametrize("header", ["ORCID,time", "ORC,time", "objective"])
def test_words_that_begin_like_a_format_are_text(tmp_path: Path, header: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"{header}\n")
    assert file_kind(path) == "plain"


@pytest.mark.parametrize(
    ("encoding", "guess"), [("cp1252", "cp1252"), ("utf-16-le", "utf-16-le"), ("utf-32", "utf-32")]
)
def test_an_ingest_names_the_probable_encoding(tmp_path: Path, encoding: str, guess: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(
        (HEADER + "Zoë,2025-01-01T10:00:00Z,Käufe\nJörg,2025-01-01T10:00:00Z,x\u00e4u\n").encode(encoding)
    )
    with pytest.raises(InputError) as caught:
        list(sources.read_events(path, sources.get_preset("canonical")))
    assert (
        f"encoding: {guess} in a mapping" in caught.value.remedy or "encoding: utf-16" in caught.value.remedy
    )
    mapping = tmp_path / "m.yaml"
    mapping.write_text(f"extends: canonical\nencoding: {guess}\n")
    (chunk,) = sources.read_events(path, sources.from_mapping(mapping))
    assert chunk.events["user_id"].tolist() == ["Zoë", "Jörg"]
