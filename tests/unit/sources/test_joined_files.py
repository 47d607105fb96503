"""Columns of a second file: matches, warnings, and errors that name file and lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources import Source, joined_files
from retail_core.sources.raw_tables import WINDOW_ROWS
from tests.unit.sources.event_rows import read_rows

MAPPING = """
name: shop
columns: {user_id: u, event_time: t, item_id: i, category: kind, brand: maker}
constants: {event_type: view_item}
"""
JOIN = "join: {file: items.csv, on: {i: id}, columns: [kind, maker]}\n"
LOG = "u,t,i\nu1,2025-01-01,7\nu2,2025-01-01,8.0\nu3,2025-01-01,9\nu4,2025-01-01,\n"
ITEMS = "id,kind,maker,unused\n7,shoes,acme,x\n8,hats,NA,x\n"
EVENTS = [
    "u1 2025-01-01T00:00:00Z view_item item_id=7 category=shoes brand=acme",
    "u2 2025-01-01T00:00:00Z view_item item_id=8 category=hats",
    "u3 2025-01-01T00:00:00Z view_item item_id=9",
    "u4 2025-01-01T00:00:00Z view_item",
    "warning: i join 2",
]


def source_of(folder: Path, text: str = MAPPING + JOIN) -> Source:
    (folder / "shop.yaml").write_text(text)
    return sources.from_mapping(folder / "shop.yaml")


def write(folder: Path, items: str = ITEMS, log: str = LOG) -> Path:
    (folder / "items.csv").write_text(items)
    (folder / "log.csv").write_text(log)
    return folder / "log.csv"


def test_rows_get_the_columns_of_their_key(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path), source_of(tmp_path)) == EVENTS


@pytest.mark.parametrize("name", ["items.csv.gz", "items.parquet", "items.jsonl"])
def test_the_joined_file_may_be_packed_or_of_another_format(tmp_path: Path, name: str) -> None:
    log = write(tmp_path)
    items = pd.DataFrame({"id": [7, 8], "kind": ["shoes", "hats"], "maker": ["acme", None]})
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress(ITEMS.encode()))
    elif name.endswith("parquet"):
        items.to_parquet(tmp_path / name)
    else:
        items.to_json(tmp_path / name, orient="records", lines=True)
    assert read_rows(log, source_of(tmp_path, MAPPING + JOIN.replace("items.csv", name))) == EVENTS


def test_keys_of_several_columns_match_as_a_whole(tmp_path: Path) -> None:
    log = write(
        tmp_path, "id,v,kind,maker\n7,a,one,x\n7,b,two,y\n", "u,t,i,v\nu1,2025-01-01,7,b\nu2,2025-01-01,7,\n"
    )
    join = "join: {file: items.csv, on: {i: id, v: v}, columns: [kind, maker]}\n"
    assert read_rows(log, source_of(tmp_path, MAPPING + join)) == [
        "u1 2025-01-01T00:00:00Z view_item item_id=7 category=two brand=y",
        "u2 2025-01-01T00:00:00Z view_item item_id=7",
        "warning: i join 1",
    ]


def test_filters_may_name_joined_columns_and_count_first(tmp_path: Path) -> None:
    log = write(tmp_path)
    assert read_rows(log, source_of(tmp_path, MAPPING + JOIN + "where: {kind: shoes}\n")) == [
        EVENTS[0],
        "filtered: kind keep 3",
    ]


def test_all_properties_have_no_internal_column(tmp_path: Path) -> None:
    log = write(tmp_path, log="u,t,i,x\nu1,2025-01-01,7,1\n")
    (chunk,) = sources.read_events(log, source_of(tmp_path, MAPPING + JOIN + "properties: all\n"))
    assert chunk.events["properties"].tolist() == ['{"x":"1"}']


def test_another_catalogue_is_another_reading_but_gives_the_same_event_ids(tmp_path: Path) -> None:
    log = write(tmp_path)
    first = source_of(tmp_path)
    write(tmp_path, ITEMS.replace("shoes", "boots"))
    second = source_of(tmp_path)
    assert first.options_hash() != second.options_hash()
    assert (
        first.options_hash()
        != source_of(tmp_path, MAPPING.replace(", category: kind, brand: maker", "")).options_hash()
    )
    (before,), (after,) = sources.read_events(log, first), sources.read_events(log, second)
    assert before.events["event_id"].tolist() == after.events["event_id"].tolist()
    assert before.events["category"].tolist() != after.events["category"].tolist()


@pytest.mark.parametrize(
    ("items", "join", "message"),
    [
        ("id,kind,maker\n7,a,b\n8,a,b\n7.0,c,d\n", JOIN, "the id '7' in lines 2 and 4"),
        ("id,kind,maker\n,a,b\n", JOIN, "no id in line 2"),
        ("id,kind,maker\n7,a\n", JOIN, "Line 2 of"),
        ("id,maker\n7,a\n", JOIN, "no column 'kind'"),
        (ITEMS, JOIN.replace("i: id", "x: id"), "no column 'x', by which a file is joined"),
        (ITEMS, JOIN.replace("kind,", "u, kind,"), "no column 'u'"),
        ("id,u,kind,maker\n7,a,b,c\n", JOIN.replace("kind,", "u, kind,"), "both have a column 'u'"),
        (ITEMS, JOIN.replace("items.csv", "none.csv"), "There is no file"),
        (ITEMS, JOIN.replace("columns", "column"), "key join"),
        (ITEMS, JOIN.replace("{i: id}", "{}"), "key join.on"),
        (ITEMS, JOIN.replace("]}", "], delimiter: ab}"), "key join.delimiter"),
        (ITEMS, JOIN.replace("]}", "], encoding: klingon}"), "no text encoding"),
    ],
)
def test_an_unusable_join_is_an_error(tmp_path: Path, items: str, join: str, message: str) -> None:
    log = write(tmp_path, items)
    with pytest.raises(InputError) as caught:
        read_rows(log, source_of(tmp_path, MAPPING + join))
    assert message in caught.value.message


def test_the_size_of_a_joined_file_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setattr(joined_files, "MAX_ROWS", 1)
    with pytest.raises(InputError, match="more than 1 rows"):
        source_of(tmp_path)
    monkeypatch.setattr(joined_files, "MAX_ROWS", 10)
    monkeypatch.setattr(joined_files, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="more than 10 rows or 0 MiB"):
        source_of(tmp_path)


def test_a_preset_that_rewrites_its_rows_has_no_join(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(InputError, match="not possible with preset online_retail"):
        source_of(tmp_path, "extends: online_retail\n" + JOIN)


KEYED = '{"u": "u1", "t": "2025-01-01", "i": "7"}\n'
AMBIGUOUS = '{"u": "u1", "t": "2025-01-01", "i": "7", "maker": "own"}\n'


def test_a_key_of_json_lines_that_is_also_joined_is_an_error(tmp_path: Path) -> None:
    write(tmp_path)
    path, source = tmp_path / "log.jsonl", source_of(tmp_path)
    path.write_text(AMBIGUOUS + KEYED)
    with pytest.raises(InputError, match=r"log.jsonl and a joined file both have a column 'maker'"):
        list(sources.read_events(path, source))
    path.write_text(KEYED * WINDOW_ROWS + AMBIGUOUS)
    windows = sources.read_events(path, source)
    assert set(next(windows).events["brand"]) == {"acme"}
    with pytest.raises(InputError, match="lines 25,001 to 25,001 and a joined file both have 'maker'"):
        next(windows)


def test_two_joined_files_with_one_column_are_an_error_for_json_lines_too(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "log.jsonl"
    path.write_text(KEYED)
    twice = "join:\n" + "  - {file: items.csv, on: {i: id}, columns: [kind, maker]}\n" * 2
    with pytest.raises(InputError, match="both have a column 'kind'"):
        list(sources.read_events(path, source_of(tmp_path, MAPPING + twice)))
