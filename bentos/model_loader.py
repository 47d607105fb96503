"""Load models from BentoML's store and replace the one in use after it has passed its self-test."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from pymongo.asynchronous.collection import AsyncCollection

from bentos.model_store import default_tag, stored_model, tag_of_version, variables
from bentos.mongo_connection import Document, MongoConnection
from bentos.service_metrics import ServiceMetrics
from retail_core.errors import DataError, DependencyError, IntegrityError, RetailError
from retail_core.model.served_model import ServedModel, load_served_model
from retail_core.registry.file_hashes import TAG, verify_files
from retail_core.settings import Settings
from retail_core.subprocesses import call_json

MODEL_FOLDER = "mlflow_model"
FIRST_RETRY_SECONDS = 5.0
RETRY_SECONDS = 60.0
"""Time after a failed attempt to load a promoted version until the next: at first, and doubled up to.

A promotion is recorded a moment before the alias is set, so the first attempt may come too early.
"""

TIMEOUT_SECONDS = 2.0
log = logging.getLogger("bentoml.serve")


@dataclass(frozen=True)
class LoadedModel:
    """A model that has passed its self-test, and its tag in BentoML's store."""

    tag: str
    served: ServedModel


def first_model(settings: Settings) -> LoadedModel | None:
    """The model to start with; None if there is none and the settings allow that.

    Raises:
        DataError: there is none, and `wait_for_model` is not set.
        IntegrityError: as `load_model`.
    """
    try:
        return load_model(settings)
    except DataError:
        if not settings.wait_for_model:
            raise
        log.info("No model is in production: only events are accepted until one is promoted.")
        return None


def load_model(settings: Settings, tag: str | None = None) -> LoadedModel:
    """Load and test the model `tag`, by default the one in RETAIL_BENTO_MODEL or the newest.

    Raises:
        DataError: BentoML's store has no such model.
        IntegrityError: files, features, types or the self-test of the model do not hold.
    """
    stored = stored_model(tag or default_tag(settings))
    metadata = stored.info.metadata
    folder, version = Path(stored.path_of(MODEL_FOLDER)), str(metadata["version"])
    verify_files(folder, {TAG: str(metadata.get(TAG, "{}"))}, version)
    served = load_served_model(folder, version)
    imported_hash = str(metadata["feature_set_hash"])
    if served.spec.feature_set.hash != imported_hash:
        raise IntegrityError(
            f"{stored.tag} was imported with features {imported_hash[:12]}, its folder says "
            f"{served.spec.feature_set.hash[:12]}.",
            remedy="run `python -m bentos.import_model` again.",
        )
    return LoadedModel(str(stored.tag), served)


async def import_again(settings: Settings) -> str:
    """Import the model under `production` in a process of its own; returns its tag.

    In an image without MLflow it is the newest model of the store.

    Raises:
        RetailError: the import failed.
    """
    if find_spec("mlflow") is None:
        return f"{settings.model_name}:latest"
    environment = {**os.environ, **variables(settings)}
    imported = await asyncio.to_thread(call_json, "bentos.import_model", [], environment)
    return str(imported["tag"])


@dataclass
class ModelReloader:
    """Holds the model in use. A swap is one assignment to `current`, which each request reads once.

    Attributes:
        current: the model in use; None before the first promotion (`RETAIL_WAIT_FOR_MODEL`).
        reload_error: why the promoted version was refused; None if it was not.
    """

    settings: Settings
    connection: MongoConnection
    metrics: ServiceMetrics
    current: LoadedModel | None
    reload_error: str | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _attempted_version: str = ""
    _attempted_at: float = 0.0
    _retry_seconds: float = FIRST_RETRY_SECONDS

    async def reload(self) -> LoadedModel:
        """Import, load and test the model under `production`; the old model stays if any of it fails.

        Nothing is done if it is the one in use, by the promotion record.

        Raises:
            RetailError: why the new version was refused.
        """
        async with self._lock:
            if self.current is not None and await self._is_promoted(self.version):
                self.reload_error = None
                return self.current
            return await self._swap(None)

    async def _is_promoted(self, version: str) -> bool:
        try:
            return await self._recorded_version() == version
        except DependencyError:
            return False

    async def run(self) -> None:
        """Follow the promotion record until cancelled."""
        while self.settings.poll_seconds:
            await asyncio.sleep(self.settings.poll_seconds)
            try:
                await self._follow_promotion()
            except RetailError as error:
                log.warning("The model was not changed: %s", error)
            except Exception:
                # A bug here must not end the following of promotions.
                log.exception("The model was not changed")

    async def catch_up(self) -> None:
        """Load the model that the previous leader may have used, without waiting for an import."""
        try:
            tag = await self._imported_tag()
            if tag and (self.current is None or tag != self.current.tag):
                self.current = await asyncio.to_thread(load_model, self.settings, tag)
        except RetailError as error:
            log.warning("The model was not changed: %s", error)

    async def _imported_tag(self) -> str | None:
        """The tag of the promoted version if it is imported and another one; the newest without polling."""
        if not self.settings.poll_seconds:
            newest = await asyncio.to_thread(stored_model, default_tag(self.settings))
            return str(newest.tag)
        promoted = await self._promoted_version()
        if promoted == self.version:
            return None
        return await asyncio.to_thread(tag_of_version, self.settings, promoted)

    async def _promoted_version(self) -> str:
        return await self._recorded_version() or self.version

    async def _recorded_version(self) -> str | None:
        """The version in production by the promotion record; None if nothing was promoted."""

        async def newest(promotions: AsyncCollection[Document]) -> Mapping[str, object] | None:
            return await promotions.find_one({}, {"version": 1}, sort=[("_id", -1)])

        entry = await self.connection.run("promotions", newest, TIMEOUT_SECONDS)
        return str(entry["version"]) if entry else None

    async def _follow_promotion(self) -> None:
        promoted = await self._promoted_version()
        if promoted == self.version:
            return
        elapsed = time.perf_counter() - self._attempted_at
        if promoted != self._attempted_version:
            self._retry_seconds = FIRST_RETRY_SECONDS
        elif elapsed < self._retry_seconds:
            return
        else:
            self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS)
        self._attempted_version, self._attempted_at = promoted, time.perf_counter()
        async with self._lock:
            await self._swap(promoted)

    async def _swap(self, version: str | None) -> LoadedModel:
        """Swap to `version` if BentoML's store has it, else to a new import of `production`."""
        try:
            tag = version and await asyncio.to_thread(tag_of_version, self.settings, version)
            tag = tag or await import_again(self.settings)
            loaded = await asyncio.to_thread(load_model, self.settings, tag)
        except RetailError as error:
            self.reload_error = str(error)
            self.metrics.record_reload("refused")
            raise
        self.reload_error = None
        self.metrics.record_reload("taken")
        log.info("Version %s replaces version %s.", loaded.served.spec.version, self.version or "none")
        self.current = loaded
        freeze_live_objects()
        return loaded

    @property
    def loaded(self) -> LoadedModel:
        """The model in use; requests that need one are refused while there is none.

        Raises:
            DataError: there is none.
        """
        if self.current is None:
            raise DataError("No model version is in production.", remedy="run `retail train`.")
        return self.current

    @property
    def version(self) -> str:
        """The version in use; empty without one."""
        return self.current.served.spec.version if self.current else ""


def freeze_live_objects() -> None:
    """Exclude all live objects, the model above all, from further garbage collections."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
