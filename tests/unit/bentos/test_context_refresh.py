"""The shop context is refreshed once for many posts, and again after a failure."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bentos.context_refresh import ContextRefresher, refresh_shop_context
from retail_core.errors import DependencyError
from retail_core.settings import Settings


def run_refresher(failures: int, posts: int) -> int:
    """Number of refreshes within ten intervals, of which the first ones fail."""
    refreshes = 0

    async def refresh() -> None:
        nonlocal refreshes
        refreshes += 1
        if refreshes <= failures:
            raise DependencyError("MongoDB is unreachable.", remedy="start it.")

    async def observe() -> None:
        refresher = ContextRefresher(refresh, interval_seconds=0.02)
        task = asyncio.create_task(refresher.run())
        for _ in range(posts):
            refresher.events_were_posted()
        await asyncio.sleep(0.4)
        task.cancel()

    asyncio.run(observe())
    return refreshes


def test_many_posts_are_one_refresh_and_none_is_none() -> None:
    assert run_refresher(failures=0, posts=50) == 1
    assert run_refresher(failures=0, posts=0) == 0


def test_a_failed_refresh_is_repeated() -> None:
    assert run_refresher(failures=2, posts=1) == 3


def test_a_machine_without_the_lake_builds_none(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", lake=str(tmp_path / "lake"))
    assert refresh_shop_context(settings) == 0
    assert not (tmp_path / "lake").exists()
