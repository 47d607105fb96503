"""Endless tasks end although they swallow a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from bentos.task_cancellation import cancel_tasks


@pytest.mark.parametrize("swallowed", range(3))
def test_a_task_that_swallows_cancellations_is_cancelled_again(
    swallowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.task_cancellation.REPEAT_SECONDS", 0.001)

    async def run() -> None:
        for _ in range(swallowed):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def cancel() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(run()) for _ in range(2)]
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await cancel_tasks(tasks)
        return tasks

    assert all(task.cancelled() for task in asyncio.run(cancel()))


def test_no_tasks_and_failed_tasks_need_no_wait() -> None:
    async def fail() -> None:
        raise ValueError

    async def cancel() -> asyncio.Task[None]:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await cancel_tasks([])
        await cancel_tasks([task])
        return task

    assert isinstance(asyncio.run(cancel()).exception(), ValueError)
