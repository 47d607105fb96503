"""Compressed, quoted, ragged, wrongly encoded and truncated files: a bad line costs only itself."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources import Chunk, Refusal, Source
from retail_core.sources.json_tables import MAX_JSON_DEPTH, load_object
from retail_core.sources.raw_tables import WINDOW_CHARACTERS, WINDOW_ROWS
from retail_core.sources.source_options import Layout

HEADER = "user_id,event_time,event_type,item_id,note\n"
GOOD = "u{0},2025-01-01T00:00:00Z,view_item,i{0},\n"
CANONICAL = sources.get_preset("canonical")


def _read(path: Path, source: Source = CANONICAL) -> list[Chunk]:
    return list(sources.read_events(path, source))


def _users_and_refusals(path: Path, source: Source = CANONICAL) -> tuple[list[str], list[tuple[int, str]]]:
    """Users of the events, and line and rule of the refusals."""
    chunks = _read(path, source)
    users = [user for chunk in chunks for user in chunk.events["user_id"]]
    return users, [(refusal.line, refusal.rule) for chunk in chunks for refusal in chunk.refused]


def _file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "events.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _parquet(data: bytes) -> bytes:
    return pd.read_csv(io.BytesIO(data)).to_parquet(None) or b""


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "gz": gzip.compress,
    "two gz members": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]) + b"\x00\x00",
    "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "parquet": _parquet,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_compression_and_encoding_gives_the_same_events(tmp_path: Path, encoding: str) -> None:
    plain = HEADER + "".join(GOOD.format(row) for row in range(20))
    expected = _read(_file(tmp_path, plain))[0].events
    events = _read(_file(tmp_path, ENCODINGS[encoding](plain.encode())))[0].events
    pd.testing.assert_frame_equal(events, expected)


def test_quoted_newlines_keep_physical_line_numbers(tmp_path: Path) -> None:
    body = 'u1,2025-01-01T00:00:00Z,view_item,i1,"two\nlines, ""quoted"""\n\nu2,nonsense,view_item,i2,\n'
    chunk = _read(_file(tmp_path, HEADER + body))[0]
    assert chunk.events["properties"].tolist() == ['{"note":"two\\nlines, \\"quoted\\""}']
    assert [(refusal.line, refusal.rule, refusal.field) for refusal in chunk.refused] == [
        (5, "time", "event_time")
    ]


def test_a_stray_quotation_mark_costs_its_line_only(tmp_path: Path) -> None:
    rows = [GOOD.format(row) for row in range(12_000)]
    rows[3] = 'u3,2025-01-01T00:00:00Z,view_item,"i3,\n'
    rows[9_000] = 'u9000,2025-01-01T00:00:00Z,view_item,"i"3,\n'
    users, refused = _users_and_refusals(_file(tmp_path, HEADER + "".join(rows)))
    assert refused == [(5, "quotes"), (9_002, "quotes")]
    assert len(users) == 11_998


def test_a_quoted_field_may_continue_beyond_a_window(tmp_path: Path) -> None:
    rows = [GOOD.format(row) for row in range(WINDOW_ROWS + 5_000)]
    rows[WINDOW_ROWS - 1] = 'uX,2025-01-01T00:00:00Z,view_item,i,"a\nb\nc"\n'
    chunks = _read(_file(tmp_path, HEADER + "".join(rows)))
    assert sum(len(chunk.events) for chunk in chunks) == WINDOW_ROWS + 5_000
    assert "uX" in set(chunks[0].events["user_id"])
    assert (chunks[0].first, chunks[1].first) == (2, chunks[0].last + 1)


def test_each_kind_of_bad_row_is_refused_by_its_rule(tmp_path: Path) -> None:
    rows = [
        GOOD.format(1).encode(),
        b"u2,2025-01-01T00:00:00Z,view_item\n",
        b"u3,2025-01-01T00:00:00Z,view_item,i,n,too,many\n",
        b"u\xff4,2025-01-01T00:00:00Z,view_item,i,n\n",
        b"u\x005,2025-01-01T00:00:00Z,view_item,i,n\n",
        b"u6,2025-01-01T00:00:00Z,view_item,i," + b"x" * 140_000 + b'"\n',
        b'u7,2025-01-01T00:00:00Z,view_item,"i",' + b"x" * 140_000 + b"\n",
        b",2025-01-01T00:00:00Z,view_item,i,n\n",
        b"u9,1899-01-01T00:00:00Z,view_item,i,n\n",
        b"u" * 600 + b",2025-01-01T00:00:00Z,view_item,i,n\n",
        b"u11,2025-01-01T00:00:00Z," + b"e" * 65 + b",i,n\n",
        b"u12,2025-01-01T00:00:00Z,view_item",
    ]
    users, refused = _users_and_refusals(_file(tmp_path, HEADER.encode() + b"".join(rows)))
    assert users == ["u1"]
    assert sorted(refused) == [
        (3, "fields"), (4, "fields"), (5, "encoding"), (6, "nul"), (7, "too_long"), (8, "too_long"),
        (9, "missing"), (10, "time_range"), (11, "length"), (12, "length"), (13, "fields"),
    ]  # fmt: skip


def test_a_refusal_has_line_field_rule_value_raw_row_and_remedy(tmp_path: Path) -> None:
    bad = "u1,2025-01-01T00:00:00Z,purchase,i1,-1.50"
    chunk = _read(_file(tmp_path, f"{HEADER.replace('note', 'price')}{bad}\n"))[0]
    assert chunk.refused == (
        Refusal(
            2, "price", "price_negative", "-1.50", bad,
            "map refunds: {negative: true}, or write refunds as events of type refund",
        ),
    )  # fmt: skip


def test_a_mapping_names_the_encoding(tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER.encode() + "Zoë,2025-01-01T00:00:00Z,view_item,i,n\n".encode("latin-1"))
    mapping = tmp_path / "latin.yaml"
    mapping.write_text("extends: canonical\nencoding: latin-1\n")
    assert _users_and_refusals(path, sources.from_mapping(mapping)) == (["Zoë"], [])


def test_rows_before_a_truncation_are_read_before_the_error(tmp_path: Path) -> None:
    lines = [GOOD.format(row * 7919 % 100_003) for row in range(60_000)]
    compressed = gzip.compress((HEADER + "".join(lines)).encode())
    reader = sources.read_events(_file(tmp_path, compressed[: len(compressed) * 3 // 4]), CANONICAL)
    chunks: list[Chunk] = []
    with pytest.raises(InputError, match=r"ends at line \d+: it is cut off or damaged"):
        chunks.extend(reader)
    users = [user for chunk in chunks for user in chunk.events["user_id"]]
    assert not any(chunk.refused for chunk in chunks)
    assert 40_000 < len(users) < 60_000
    assert users == [line.split(",", 1)[0] for line in lines[: len(users)]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04....", "packed as zip"),
        (b"BZh91AY&SY", "packed as bzip2"),
        (b"\xfd7zXZ\x00...", "packed as xz"),
        (gzip.compress(gzip.compress(b"user_id", mtime=0), mtime=0), "is not utf-8 text"),
        (gzip.compress("user_id,event_time".encode("utf-16"), mtime=0), "is not utf-8 text"),
        (b"user_id,event_time,event_type,\x00\n", "is not utf-8 text"),
        (b'[{"user_id": 1}]\n', "is a JSON array"),
        (b'{\n"user_id": 1\n}\n', "begins as JSON"),
        (b"\x1f\x8b\x08\x00rubbish", "cut off or damaged"),
        (b"PAR1....PAR1", "not a complete Parquet file"),
        ("user_id,event_time\n".encode("utf-16"), "UTF-16"),
        (b"user_id,user_id\n", "twice"),
        (b"User_Id,event_time,event_type\n", "no column 'user_id'"),
        (b"sep=;\nuser_id;event_time;event_type\n", "begins with sep=;"),
        (HEADER.encode() + b"\xff\xfe,a,b,c,d\n", "not utf-8 text"),
        (b"user_id;event_time;event_type\n", "delimiter"),
        (b"user_id,event_time\nu,2025-01-01\n", "no column 'event_type'"),
        (
            b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n",
            "rees46",
        ),
        (b"timestamp,visitorid,event,itemid,transactionid\n", "--source retailrocket"),
        (b'{"session": 1, "events": []}\n', "--source otto"),
        (b"1,2268318,2520377,pv,1511544070\n", "--source taobao"),
    ],
)
def test_an_unusable_file_is_one_line_of_message(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        _read(_file(tmp_path, content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            _read(path)


def test_reading_continues_after_a_skipped_window(tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER + "".join(GOOD.format(row) for row in range(2 * WINDOW_ROWS + 5)))
    chunks = _read(path)
    later = list(sources.read_events(path, CANONICAL, skip=chunks[0].last))
    assert [(chunk.first, chunk.last) for chunk in later] == [
        (chunk.first, chunk.last) for chunk in chunks[1:]
    ]
    pd.testing.assert_frame_equal(later[0].events, chunks[1].events)


def test_json_lines_with_nul_or_lone_surrogates_cost_their_line_only(tmp_path: Path) -> None:
    row = '{{"user_id": "{0}", "event_time": "2025-01-01", "event_type": "search"}}\n'
    users, refused = _users_and_refusals(
        _file(tmp_path, "".join(map(row.format, ["a", r"\ud800", r"\u0000", "b"])))
    )
    assert users == ["a", "b"]
    assert refused == [(2, "encoding"), (3, "nul")]


def _nested_json(depth: int) -> str:
    return '{"k": ' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "nested",
    ['{"k": NaN}', '{"k": "\\ud800"}', "[1]", _nested_json(MAX_JSON_DEPTH + 1), _nested_json(5_000)],
    ids=["nan", "surrogate", "array", "deep", "very deep"],
)
def test_properties_that_some_json_readers_reject_are_left_out(tmp_path: Path, nested: str) -> None:
    quoted = nested.replace('"', '""')
    text = f'user_id,event_time,event_type,note,properties\nu,2025-01-01,search,n,"{quoted}"\n'
    (chunk,) = _read(_file(tmp_path, text))
    assert chunk.events["properties"].tolist() == ['{"note":"n"}']
    assert [(note.field, note.rule, note.count) for note in chunk.notes.warnings] == [
        ("properties", "properties", 1)
    ]


def test_json_nested_up_to_the_limit_is_accepted(tmp_path: Path) -> None:
    deepest, too_deep = _nested_json(MAX_JSON_DEPTH), _nested_json(MAX_JSON_DEPTH + 1)
    quoted = deepest.replace('"', '""')
    text = f'user_id,event_time,event_type,properties\nu,2025-01-01,search,"{quoted}"\n'
    assert _users_and_refusals(_file(tmp_path, text)) == (["u"], [])
    assert load_object(deepest) is not None
    assert load_object(too_deep) is None
    assert load_object(json.dumps({"k": [[1]] * MAX_JSON_DEPTH})) is not None


def test_a_window_of_long_lines_is_short(tmp_path: Path) -> None:
    long = "x" * (WINDOW_CHARACTERS // 4)
    lines = [f"u{row},2025-01-01,search,,{long}\n" for row in range(9)]
    chunks = _read(_file(tmp_path, HEADER + "".join(lines)))
    assert [chunk.rows_read for chunk in chunks] == [4, 4, 1]
    assert [(chunk.first, chunk.last) for chunk in chunks] == [(2, 5), (6, 9), (10, 10)]
    (last_chunk,) = sources.read_events(tmp_path / "events.csv", CANONICAL, skip=9)
    assert last_chunk.lines.tolist() == [10]


def test_utf_16_is_read_where_a_mapping_names_it(tmp_path: Path) -> None:
    mapping = tmp_path / "utf16.yaml"
    mapping.write_text("extends: canonical\nencoding: utf-16\n")
    path = _file(tmp_path, (HEADER + "Zoë,2025-01-01T00:00:00Z,view_item,i,n\n").encode("utf-16"))
    assert _users_and_refusals(path, sources.from_mapping(mapping)) == (["Zoë"], [])


def test_lines_may_end_with_a_carriage_return_alone(tmp_path: Path) -> None:
    text = HEADER + "".join(GOOD.format(row) for row in range(3)) + "u9,never,search,,\n"
    assert _users_and_refusals(_file(tmp_path, text.replace("\n", "\r"))) == (
        ["u0", "u1", "u2"],
        [(5, "time")],
    )


def test_tabs_separate_fields_that_contain_quotation_marks(tmp_path: Path) -> None:
    source = replace(CANONICAL, layout=Layout(delimiter="\t"))
    text = 'user_id\tevent_time\tevent_type\titem_id\nu1\t2025-01-01\tsearch\t"a ""b"" c"\n'
    (chunk,) = _read(_file(tmp_path, text), source)
    assert chunk.events["item_id"].tolist() == ['a "b" c']


def test_the_columns_of_a_header_are_trimmed(tmp_path: Path) -> None:
    text = "\ufeff user_id , event_time,event_type\nu1,2025-01-01,search\n"
    assert _users_and_refusals(_file(tmp_path, text)) == (["u1"], [])


def test_columns_that_nothing_reads_may_repeat(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("name: shop\ncolumns: {user_id: u, event_time: t, event_type: e}\n")
    path = _file(tmp_path, 'u,k,t,k,e,,\nu1,a,2025-01-01,b,search,,\n"u2",a,2025-01-01,b,search,,\n')
    assert _users_and_refusals(path, sources.from_mapping(mapping)) == (["u1", "u2"], [])


def test_lines_before_the_header_and_comments_keep_the_line_numbers(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("extends: canonical\nskip_lines: 2\ncomment: '#'\n")
    text = (
        f"My shop\n\n# of 2025\n{HEADER}" + GOOD.format(1) + "# u7\n" + GOOD.format(2) + "u9,never,search,,\n"
    )
    source = sources.from_mapping(mapping)
    (chunk,) = _read(_file(tmp_path, text), source)
    assert (chunk.lines.tolist(), [refusal.line for refusal in chunk.refused]) == ([5, 7], [8])
    (later,) = sources.read_events(tmp_path / "events.csv", source, skip=5)
    assert later.lines.tolist() == [7]


def test_any_character_may_separate_the_fields(tmp_path: Path) -> None:
    source = replace(CANONICAL, layout=Layout(delimiter="é"))
    users, refused = _users_and_refusals(
        _file(tmp_path, "user_idéevent_timeéevent_type\nué2025-01-01ésearch\n"), source
    )
    assert (users, refused) == (["u"], [])
