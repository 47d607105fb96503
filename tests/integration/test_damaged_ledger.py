"""A ledger that does not account for the stored events stops a synchronization with one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from retail_core.errors import IntegrityError
from retail_core.store.lake.comparison import differences
from retail_core.store.lake.table import rebuild, sync
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ledger_checks import all_unknown_windows, damaged_windows, window_mismatches
from tests.lake_windows import event, put

pytestmark = [pytest.mark.integration, pytest.mark.long]


def fill(store: Store) -> None:
    for window in (1, 2, 3):
        put(store, window, [event(window * 100 + n, window, day=n % 2) for n in range(40)])


def change(update: dict[str, object]) -> Callable[[Store], object]:
    return lambda store: store.ledger.update_one({"_id": "window:2"}, {"$set": update})


DAMAGE: dict[str, tuple[Callable[[Store], object], str]] = {
    "window missing": (lambda store: store.ledger.delete_one({"_id": "window:2"}), "40 events .* window 2"),
    "newest window missing": (lambda store: store.ledger.delete_one({"_id": "window:3"}), "window 3"),
    "id is text": (change({"window_id": "2"}), "window 2"),
    "state unknown": (change({"state": "?"}), "window 2"),
    "counts missing": (change({"counts": None}), "'window:2' .* counts is None"),
    "counts of another kind": (change({"counts": [1]}), r"counts is \[1\]"),
    "counts with text": (change({"counts.inserted": "x"}), "counts is"),
    "users with text": (change({"users": "x"}), "users is 'x'"),
    "more events than counted": (lambda store: store.events.insert_one(event(9, 2)), "41 are stored"),
}


@pytest.mark.parametrize("is_first", [True, False], ids=["first sync", "later sync"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_ledger_is_one_line(store: Store, kind: str, is_first: bool) -> None:
    damage, message = DAMAGE[kind]
    if not is_first:
        put(store, 1, [event(1, 1)])
        sync(store)
        store.ledger.delete_many({})
        store.events.delete_many({})
    fill(store)
    damage(store)
    for synchronize in (sync, rebuild):
        with pytest.raises(IntegrityError, match=message) as caught:
            synchronize(store)
        assert "\n" not in str(caught.value)


def test_an_open_window_and_gaps_without_events_are_no_damage(store: Store) -> None:
    fill(store)
    put(store, 7, [event(7, 7)], committed=False)
    put(store, 9, [event(9, 9)])
    assert sync(store).rows == 121
    assert all_unknown_windows(store) == []
    assert window_mismatches(store) == []
    assert damaged_windows(store) == []
    assert differences(store) == []


def test_fewer_events_are_logged_unless_users_were_erased(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store)
    store.events.delete_many({"window_id": 2, "user_id": "u1"})
    sync(store)
    assert "Window 2 of the ingestion ledger counts 40 events, and 3" in caplog.text
    assert len(window_mismatches(store)) == 1
    store.erasures.insert_one({"at": 1})
    assert window_mismatches(store) == []


def test_rows_of_the_lake_that_differ_are_named_by_day(store: Store) -> None:
    fill(store)
    sync(store)
    store.events.update_one({"_id": f"{100:032x}"}, {"$set": {"event_type": "search"}})
    store.events.delete_one({"_id": f"{101:032x}"})
    assert differences(store) == [
        "events of 2025-01-01: the 60 rows of the lake differ from those of MongoDB",
        "events of 2025-01-02: 60 rows in the lake, 59 in MongoDB",
    ]
