"""Every record of any file is read, and each is stored, a duplicate or refused."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.store.mongo import quarantine
from retail_core.store.mongo.connection import Store
from tests.examples import examples

HEADER = b"event_id,user_id,event_time,event_type,item_id,price\n"
CANONICAL = sources.get_preset("canonical")
VALID = b"t,u9,2025-01-01,search,,"
"""A valid line, so that no generated file is unreadable as a whole."""

AT = datetime(2025, 1, 1, tzinfo=UTC)

TIMES = [b"2025-01-01", b"2025-01-01T10:00:00Z", b"soon"]
NUMBERS = [b"1.5", b"-1", b"1,5", b"NaN"]
ODD = [b'"', b'"x"', b'"x,y"', b"\xff", b"\x00", b" ", "é".encode(), b"9" * 600]

cells = st.sampled_from([b"", b"a", b"b", b"u1", b"purchase", *TIMES, *NUMBERS, *ODD])
messy = st.lists(cells, min_size=1, max_size=8).map(b",".join)
unquoted = messy.filter(lambda line: b'"' not in line)
tidy = st.builds(
    lambda key, user, at, kind, price: b",".join([key, user, at, kind, b"", price]),
    st.sampled_from([b"", b"", b"k1", b"k2"]),
    st.sampled_from([b"u1", b"u2", b""]),
    st.sampled_from(TIMES),
    st.sampled_from([b"purchase", b"search"]),
    st.sampled_from([b"", b"1.50", b"2"]),
)
SLOW_DATABASE = rules(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SLOW_DATABASE
@given(st.lists(st.one_of(tidy, unquoted), max_size=30), st.sampled_from([b"\n", b"\r\n"]))
def test_without_quotes_each_line_is_one_record(tmp_path: Path, lines: list[bytes], ending: bytes) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(HEADER + ending.join([*lines, VALID]))
    chunks = list(sources.read_events(path, CANONICAL))
    refused = [refusal.line for chunk in chunks for refusal in chunk.refused]
    accepted = [int(line) for chunk in chunks for line in chunk.lines]
    assert sorted(refused + accepted) == [
        number for number, line in enumerate([*lines, VALID], start=2) if line
    ]


@SLOW_DATABASE
@given(st.lists(messy, max_size=20))
def test_with_quotes_no_line_is_lost(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "log.csv"
    lines = [VALID, *lines]
    path.write_bytes(HEADER + b"".join(line + b"\n" for line in lines))
    chunks = list(sources.read_events(path, CANONICAL))
    raw = [chunk.raw(row) for chunk in chunks for row in range(len(chunk.events))]
    raw += [refusal.raw for chunk in chunks for refusal in chunk.refused]
    raw_lines = sorted(line.encode("utf-8", "surrogateescape") for text in raw for line in text.split("\n"))
    assert raw_lines == sorted(line for line in lines if line)


@pytest.mark.integration
@rules(SLOW_DATABASE, max_examples=examples(12))
@given(st.lists(st.one_of(tidy, tidy, messy), max_size=40))
def test_counts_add_up_in_the_store(store: Store, tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(HEADER + b"\n".join([VALID, *lines]) + b"\n")
    events, quarantined_before = store.events.count_documents({}), _quarantined(store)
    report = ingest(store, [path], CANONICAL, at=AT)
    assert report.rows_read == report.events_inserted + report.duplicates + report.quarantined
    assert store.events.count_documents({}) == events + report.events_inserted
    quarantined = _quarantined(store)
    unreadable = [refusal.raw for chunk in sources.read_events(path, CANONICAL) for refusal in chunk.refused]
    assert Counter(map(quarantine.escape_undecodable, unreadable)) <= quarantined
    assert quarantined_before <= quarantined
    assert (quarantined - quarantined_before).total() <= report.quarantined
    assert quarantined_before or quarantined.total() == report.quarantined


def _quarantined(store: Store) -> Counter[str]:
    """How often each raw row is in quarantine."""
    return Counter(document["raw"] for document in store.quarantine.find())
