"""Which model answers: loaded, tried, and only then put in the place of the one before."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pymongo.asynchronous.collection import AsyncCollection

from bentos import models
from bentos.connection import Connection, Document
from bentos.meters import Meters
from retail_core.errors import RetailError
from retail_core.settings import Settings

AGAIN_SECONDS = 60.0
"""After so long a promotion that could not be followed is tried once more."""

ASK_SECONDS = 2.0
log = logging.getLogger("bentoml.serve")


@dataclass
class Swapper:
    """Holds the model in use. A swap is one assignment to `loaded`; each request reads it once.

    Attributes:
        loaded: the model that answers.
        refused: why the version that should be in its place is not; None where it is.
    """

    settings: Settings
    connection: Connection
    meters: Meters
    loaded: models.Loaded
    refused: str | None = None
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tried: tuple[str, float] = ("", 0.0)

    async def reload(self) -> models.Loaded:
        """Import, load and try what is under `production`; the old model stays if any of it fails.

        Raises:
            RetailError: why the new version was refused.
        """
        async with self._one_at_a_time:
            return await self._follow(None)

    async def run(self) -> None:
        """Follow the record of promotions until cancelled."""
        while self.settings.poll_seconds:
            await asyncio.sleep(self.settings.poll_seconds)
            try:
                await self._look()
            except RetailError as error:
                log.warning("The model was not changed: %s", error)

    async def catch_up(self) -> None:
        """Take what the process before may have answered with: it is imported, so nobody waits for that."""
        try:
            tag = await self._present_tag()
            if tag and tag != self.loaded.tag:
                self.loaded = await asyncio.to_thread(models.load, self.settings, tag)
        except RetailError as error:
            log.warning("The model was not changed: %s", error)

    async def _present_tag(self) -> str | None:
        """Of the version promoted last, if it is imported; where promotions are not followed the newest."""
        if not self.settings.poll_seconds:
            return await asyncio.to_thread(models.newest_tag, self.settings)
        wanted = await self._wanted()
        return (
            None if wanted == self.version else await asyncio.to_thread(models.tag_of, self.settings, wanted)
        )

    async def _wanted(self) -> str:
        async def newest(promotions: AsyncCollection[Document]) -> Mapping[str, object] | None:
            return await promotions.find_one({}, {"version": 1}, sort=[("_id", -1)])

        entry = await self.connection.ask("promotions", newest, ASK_SECONDS)
        return str(entry["version"]) if entry else self.version

    async def _look(self) -> None:
        wanted = await self._wanted()
        tried, at = self._tried
        if wanted == self.version:
            return
        if wanted == tried and time.perf_counter() - at < AGAIN_SECONDS:
            return
        self._tried = (wanted, time.perf_counter())
        async with self._one_at_a_time:
            await self._follow(wanted)

    async def _follow(self, version: str | None) -> models.Loaded:
        """Swap to `version` if it is in BentoML's store, else to what an import of `production` brings."""
        try:
            tag = version and await asyncio.to_thread(models.tag_of, self.settings, version)
            tag = tag or await models.import_again(self.settings)
            loaded = await asyncio.to_thread(models.load, self.settings, tag)
        except RetailError as error:
            self.refused = str(error)
            self.meters.reloads["refused",] += 1
            raise
        self.refused = None
        self.meters.reloads["taken",] += 1
        log.info("Version %s answers now, in the place of %s.", loaded.served.spec.version, self.version)
        self.loaded = loaded
        settle()
        return loaded

    @property
    def version(self) -> str:
        """The version that answers."""
        return self.loaded.served.spec.version


def settle() -> None:
    """Take everything alive out of the garbage collector's sight, so that it never walks the model again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
