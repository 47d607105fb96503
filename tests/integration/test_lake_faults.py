"""Killed and concurrent commands leave the lake as MongoDB is; `bench_lake_faults` does it more often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from retail_core.store.lake.table import sync
from retail_core.store.mongo.connection import Store, open_store
from tests.benchmarks.bench_lake_faults import Tries, measure_kills, measure_pairs, summary
from tests.fault_shop import FaultShop
from tests.forked_commands import is_clear, lake_differences
from tests.home_copies import drop_database, new_database_name

pytestmark = [pytest.mark.integration, pytest.mark.long]
NOTHING_WRONG = {"lost": 0, "doubled": 0, "unclear": 0}


@pytest.fixture(scope="module")
def opened(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultShop, Store]]:
    shop = FaultShop(tmp_path_factory.mktemp("faults"), mongod_uri, new_database_name(), rows=200)
    with open_store(shop.settings) as store:
        yield shop, store
    drop_database(shop.settings)


def test_a_killed_command_that_runs_again_loses_and_doubles_nothing(
    opened: tuple[FaultShop, Store], tmp_path: Path
) -> None:
    tries = Tries(tmp_path / "tries.jsonl")
    measure_kills(*opened, tries, 3, seed=1, kinds=("sync", "ingest"))
    counts = summary(tries)["kill"]
    assert counts["tries"] == 3
    assert counts.items() >= NOTHING_WRONG.items(), tries.done


def test_two_homes_that_ingest_at_the_same_time_lose_and_double_nothing(
    opened: tuple[FaultShop, Store], tmp_path: Path
) -> None:
    tries = Tries(tmp_path / "tries.jsonl")
    measure_pairs(*opened, tries, 2, seed=1, erase_every=2)
    assert [entry["erased"] for entry in tries.done] == [False, True]
    assert summary(tries)["pair"].items() >= NOTHING_WRONG.items(), tries.done


def test_lost_and_doubled_rows_are_counted(opened: tuple[FaultShop, Store]) -> None:
    """The comparison that the other tests rely on can fail."""
    shop, store = opened
    shop.add_windows(store, "counted", "1")
    before = lake_differences(store)
    assert before.lost > shop.rows * 0.9
    sync(store)
    event = store.events.find_one_and_delete({})
    assert event is not None
    assert (lake_differences(store).lost, lake_differences(store).doubled) == (0, 1)
    store.events.insert_one(event)


@pytest.mark.parametrize(
    ("code", "stderr", "clear"),
    [
        (0, "", True),
        (1, "error: There are no events yet. Remedy: run `retail ingest`.\n", True),
        (1, "error: Something.\n", False),
        (70, "Traceback (most recent call last):\n", False),
    ],
)
def test_an_error_is_clear_if_it_is_one_line_with_a_remedy(code: int, stderr: str, clear: bool) -> None:
    assert is_clear(CompletedProcess((), code, "", stderr)) is clear
