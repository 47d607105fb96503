"""Sorted events cut into shares of whole users, each with the pairs of its users."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow

SHARE_ROWS = 400_000
"""Events of a share: few enough for caches and memory, enough for NumPy."""


def shares(
    pairs: pyarrow.Table, events: pyarrow.RecordBatchReader, rows: int = SHARE_ROWS
) -> Iterator[tuple[pyarrow.Table, pyarrow.Table]]:
    """Pairs and events of the same users; some `rows` events at a time, or those of one user with more.

    Args:
        pairs: `uid` and more, by uid; every pair is in one share, also one whose user has no events.
        events: `uid` and more, by uid.
        rows: events of a share, about.
    """
    asked = pairs.column("uid").to_numpy()
    done, waiting = 0, events.schema.empty_table()
    for batch in events:
        waiting = pyarrow.concat_tables([waiting, pyarrow.Table.from_batches([batch])])
        if len(waiting) < rows:
            continue
        users = waiting.column("uid").to_numpy()
        # The last user may go on.
        if cut := int(np.searchsorted(users, users[-1])):
            end = int(np.searchsorted(asked, users[-1]))
            yield pairs.slice(done, end - done), waiting.slice(0, cut)
            done, waiting = end, waiting.slice(cut)
    yield pairs.slice(done), waiting


def in_threads(
    work: Callable[[pyarrow.Table, pyarrow.Table], pyarrow.Table],
    parts: Iterable[tuple[pyarrow.Table, pyarrow.Table]],
    threads: int,
) -> Iterator[pyarrow.Table]:
    """What `work` makes of the parts, in their order; so many are worked on at once, and one waits."""
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[pyarrow.Table]] = deque()
        for part in parts:
            running.append(pool.submit(work, *part))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
