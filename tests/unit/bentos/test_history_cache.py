"""Histories in memory: which cut-offs share one, what is removed, and what is not added."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from bson import Timestamp

from bentos.event_changes import _cluster_time
from bentos.history_cache import ENTRY_BYTES, SPAN_DAYS, HistoryCache, HistoryKey
from retail_core.attribution import IdPeriod
from retail_core.features.batch.encoded_histories import ROW_BYTES, EncodedHistory, HistoryLayout
from retail_core.times import to_micros

AS_OF = datetime(2025, 2, 1, 13, 30, tzinfo=UTC)
LAYOUT = HistoryLayout(("view_item",), ())
OTHER_LAYOUT = HistoryLayout(("view_item", "search"), ())


def key(*ids: str, as_of: datetime = AS_OF) -> HistoryKey:
    return HistoryKey.of([IdPeriod(user_id) for user_id in ids], as_of, 28)


def history(events: int, layout: HistoryLayout = LAYOUT) -> EncodedHistory:
    return EncodedHistory(bytes(events * ROW_BYTES), b"", layout)


def filled(*keys: HistoryKey, events: int = 3, limit: int = 1_000_000) -> HistoryCache:
    cache = HistoryCache(limit)
    with cache.reading() as reading:
        for each in keys:
            cache.put(each, history(events), reading)
    return cache


@pytest.mark.parametrize("hours", range(0, 24 * 12, 5))
def test_a_history_has_all_events_of_the_look_back_of_its_cutoffs(hours: int) -> None:
    as_of = AS_OF + timedelta(hours=hours)
    start, end = key("a", as_of=as_of).time_span
    assert start <= as_of - timedelta(days=28)
    assert as_of <= end
    assert end - start == timedelta(days=28 + SPAN_DAYS)


def test_cutoffs_of_one_span_share_a_history_and_look_backs_do_not() -> None:
    spans = [key("a", as_of=AS_OF + timedelta(hours=hours)) for hours in range(24 * SPAN_DAYS * 4)]
    assert len({*spans}) == 5
    assert HistoryKey.of([IdPeriod("a")], AS_OF, 7) != key("a")


def test_a_stored_event_is_missing_in_the_histories_of_its_persons_from_its_time_on() -> None:
    later = AS_OF + timedelta(days=9)
    cache = filled(key("a"), key("b"), key("a", "b"), key("a", as_of=later))
    for time in (AS_OF, AS_OF - timedelta(days=2), AS_OF - timedelta(days=1)):
        cache.event_was_stored("a", to_micros(time))
    missing_from = to_micros(AS_OF - timedelta(days=2))
    expected = {key("a"): missing_from, key("a", "b"): missing_from, key("b"): None}
    expected[key("a", as_of=later)] = missing_from
    for each, complete_before in expected.items():
        assert cache.get(each, LAYOUT) == (history(3), complete_before)
    assert (cache.hits, cache.misses) == (1, 3)
    with cache.reading() as reading:
        cache.put(key("a"), history(4), reading)
    assert cache.get(key("a"), LAYOUT) == (history(4), None)


def test_an_event_outside_the_time_span_of_a_history_is_not_missing_in_it() -> None:
    cache = filled(key("a"))
    start, end = map(to_micros, key("a").time_span)
    for time, complete_before in (
        (start - 1_000, None),
        (end, None),
        (end - 1_000, end - 1_000),
        (start, start),
    ):
        cache.event_was_stored("a", time)
        assert cache.get(key("a"), LAYOUT) == (history(3), complete_before)


def test_what_changes_while_it_is_read_is_not_added() -> None:
    cache, now = filled(), to_micros(AS_OF)
    with cache.reading() as first, cache.reading() as second:
        cache.event_was_stored("a", now)
        cache.put(key("a"), history(1), first)
        cache.put(key("a", "b"), history(1), second)
        cache.put(key("b"), history(1), first)
        assert len(cache) == 1
        with cache.reading() as later:
            cache.put(key("a"), history(1), later)
        assert len(cache) == 2
        cache.clear()
        cache.put(key("c"), history(1), second)
    assert len(cache) == cache.size_bytes == 0
    cache.event_was_stored("b", now)


def test_the_histories_used_longest_ago_are_removed_first() -> None:
    room_for_three = 3 * (3 * ROW_BYTES + ENTRY_BYTES)
    cache = filled(key("a"), key("b"), key("c"), limit=room_for_three)
    cache.get(key("a"), LAYOUT)
    with cache.reading() as reading:
        cache.put(key("d"), history(3), reading)
        assert [cache.get(key(name), LAYOUT) is not None for name in "abcd"] == [True, False, True, True]
        cache.put(key("e"), history(10_000), reading)  # more than all may take
    assert (len(cache), cache.size_bytes) == (3, room_for_three)


def test_a_model_that_reads_other_event_types_gets_other_histories() -> None:
    cache = filled(key("a"))
    assert cache.get(key("a"), OTHER_LAYOUT) is None
    with cache.reading() as reading:
        cache.put(key("a"), history(3, OTHER_LAYOUT), reading)
    assert cache.get(key("a"), OTHER_LAYOUT)
    assert cache.size_bytes == 3 * ROW_BYTES + ENTRY_BYTES


def test_the_time_of_a_resume_token() -> None:
    token = {"_data": "826B0CFB06000000022B022C0100296E5A1004"}
    assert _cluster_time(token) == Timestamp(0x6B0CFB06, 2)
    for unknown in (None, {}, {"_data": "83" + "00" * 12}, {"_data": "826B"}, {"_data": b"no hex"}):
        assert _cluster_time(unknown) is None
