"""Time spans read from MongoDB for a list: each user's look-backs, and nothing between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bentos.history_reader import time_spans

DAY = timedelta(days=1)
LOOKBACK = 28 * DAY
AS_OF = datetime(2025, 2, 1, tzinfo=UTC)


def test_users_asked_about_at_one_instant_are_read_together() -> None:
    assert time_spans([("a", AS_OF), ("b", AS_OF), ("a", AS_OF)], LOOKBACK) == {
        (AS_OF - LOOKBACK, AS_OF): ["a", "b"]
    }


def test_one_item_long_ago_makes_no_other_read_more() -> None:
    long_ago = datetime(1990, 1, 1, tzinfo=UTC)
    assert time_spans([("a", AS_OF), ("b", long_ago), ("a", long_ago)], LOOKBACK) == {
        (long_ago - LOOKBACK, long_ago): ["a", "b"],
        (AS_OF - LOOKBACK, AS_OF): ["a"],
    }


def test_look_backs_of_one_user_that_meet_are_read_once() -> None:
    cutoffs = [("a", AS_OF + 20 * DAY), ("a", AS_OF), ("a", AS_OF + 48 * DAY), ("a", AS_OF + 80 * DAY)]
    assert time_spans(cutoffs, LOOKBACK) == {
        (AS_OF - LOOKBACK, AS_OF + 48 * DAY): ["a"],
        (AS_OF + 52 * DAY, AS_OF + 80 * DAY): ["a"],
    }
