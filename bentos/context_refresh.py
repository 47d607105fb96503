"""Store the shop context again after events were posted, in the batch process and at most once in a while.

`POST /events` answers without waiting for it. It synchronizes the lake, which only this and the commands do;
the interval bounds the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.util import find_spec

from retail_core.errors import RetailError
from retail_core.settings import Settings

log = logging.getLogger(__name__)


def refresh_shop_context(settings: Settings) -> int:
    """Apply posted events to the lake and store the context features of its days; returns their number.

    Does nothing where the lake is not on this machine, or, as in the service's image, `deltalake` is not
    installed: the scheduled flows then do it.

    Raises:
        DependencyError: MongoDB or the lake cannot be used.
    """
    # The real-time process imports this module too, and starts sooner without these.
    from retail_core.store.lake.location import has_lake

    if find_spec("deltalake") is None or not has_lake(settings.lake_url):
        return 0
    from retail_core.scoring.shop_context import store_shop_context
    from retail_core.workspace import open_workspace

    with open_workspace(settings) as workspace:
        return store_shop_context(workspace)


class ContextRefresher:
    """Calls `refresh` after events were posted, no more than once in an interval."""

    def __init__(self, refresh: Callable[[], Awaitable[object]], interval_seconds: float) -> None:
        self._refresh = refresh
        self._interval_seconds = interval_seconds
        self._posted = asyncio.Event()

    def events_were_posted(self) -> None:
        """Ask for a refresh at the end of the present interval."""
        self._posted.set()

    async def run(self) -> None:
        """Refresh for ever; a failure is logged, and the next interval tries again."""
        while True:
            await self._posted.wait()
            await asyncio.sleep(self._interval_seconds)
            self._posted.clear()
            try:
                await self._refresh()
            except Exception as error:  # noqa: BLE001 - whatever the other process raised
                self._posted.set()
                cause = error if isinstance(error, RetailError) else type(error).__name__
                log.warning("The shop context was not stored: %s", cause)
