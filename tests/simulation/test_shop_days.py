"""A bounded share of the simulated shop-days; `bench_shop_days` simulates more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from retail_core.ingest import request_events
from retail_core.settings import Settings
from tests.home_copies import copy_home, drop_database
from tests.serving import register_variant
from tests.simulation.shop_days import ShopDays

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def versions_template(registered: Settings) -> Settings:
    """A home with versions 1 to 4, of which 1 is in production."""
    for factor in (0.5, 0.6, 0.7):
        register_variant(registered, factor=factor)
    return registered


@pytest.fixture
def home(versions_template: Settings, tmp_path: Path) -> Iterator[Settings]:
    settings = copy_home(versions_template, tmp_path / "home")
    yield settings
    drop_database(settings)


def test_days_with_faults_lose_double_and_keep_nothing_that_they_should_not(
    versions_template: Settings, tmp_path: Path
) -> None:
    faults = 0
    for seed in range(1, 6):
        settings = copy_home(versions_template, tmp_path / str(seed))
        findings = ShopDays(settings, tmp_path, seed).live(days=6)
        drop_database(settings)
        assert not findings.violations, seed
        faults += findings.faults.total()
    assert faults > 10


def test_a_seed_replays_the_same_commands_and_faults(versions_template: Settings, tmp_path: Path) -> None:
    found = []
    for number in range(2):
        settings = copy_home(versions_template, tmp_path / str(number))
        found.append(ShopDays(settings, tmp_path, seed=2).live(days=2))
        drop_database(settings)
    assert found[0] == found[1]


def test_a_command_that_loses_an_event_is_found(home: Settings, tmp_path: Path) -> None:
    insert = request_events.insert_window

    def losing(store: Any, window: Any, window_id: int) -> Any:
        inserted = insert(store, window, window_id)
        store.events.delete_one({})
        return inserted

    with patch.object(request_events, "insert_window", losing):
        findings = ShopDays(home, tmp_path, seed=1).live(days=10)
    assert any("lost" in sentence for sentence in findings.violations)
