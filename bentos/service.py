"""The two BentoML services: `PurchaseService` answers in real time, `BatchScorer` scores files beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml

from bentos import bentoml_patches
from bentos.admission import predictions
from bentos.context_refresh import ContextRefresher, refresh_shop_context
from bentos.http.access_log import AccessLog
from bentos.http.fast_path import FastPath, FastPathMiddleware
from bentos.http.guard import Guard
from bentos.http.key_ring import KeyRing
from bentos.http.routes import create_app
from bentos.job_runner import JobRunner
from bentos.json_logs import use_json_logs
from bentos.leader_lock import LeaderLock, is_second_worker, memory_allows_standby
from bentos.model_loader import LoadedModel, first_model, load_model
from bentos.model_store import default_tag, tag_of_version, variables
from bentos.prediction_service import PredictionService
from bentos.supervision import end_with_supervisor, supervisor
from bentos.tracing import load_tracer
from retail_core.api_keys import configured_keys
from retail_core.model.served_model import ServedModel
from retail_core.settings import Settings, load_settings

SETTINGS: Settings = load_settings()
REFRESH_SECONDS = 3600
"""Time limit for storing the shop context, which synchronizes the lake."""

BATCH_NICENESS = 10
"""Gives the batch runner a ninth of a core that the real-time process wants too."""

SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter while the event loop waits; Python's default is 5 ms."""


def _guard() -> Guard:
    keys = KeyRing(configured_keys(SETTINGS), SETTINGS.api_keys_path)
    return Guard(keys, SETTINGS.upload_mb * 1024 * 1024, SETTINGS.rate_limit)


own_app = create_app()
own_app.state.leader_lock = LeaderLock(os.getppid(), Path(variables(SETTINGS)["BENTOML_HOME"]))
own_app.state.access_log = AccessLog(enabled=SETTINGS.access_log, as_json=SETTINGS.log_format == "json")
fast_path = FastPath(own_app, _guard(), own_app.state.access_log)
if SETTINGS.log_format == "json":
    use_json_logs()
bentoml_patches.apply()


@bentoml.service(workers=1, traffic={"timeout": REFRESH_SECONDS}, resources={"cpu": "1"})
class BatchScorer:
    """Scores the files of jobs, in a process of its own, so that no file delays a real-time prediction."""

    def __init__(self) -> None:
        end_with_supervisor(supervisor())
        os.nice(BATCH_NICENESS)
        self._loaded: LoadedModel | None = None
        self._runner = JobRunner(SETTINGS, self._model)
        self._runner.start()

    def _model(self, version: str) -> ServedModel:
        """The model of that version; the newest one where BentoML's store no longer has it."""
        tag = tag_of_version(SETTINGS, version) or default_tag(SETTINGS)
        if self._loaded is None or self._loaded.tag != tag:
            self._loaded = load_model(SETTINGS, tag)
        return self._loaded.served

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def hand_back_job(self) -> None:
        """End the work on jobs; the one in work is queued again."""
        self._runner.stop()

    @bentoml.api  # type: ignore[untyped-decorator]
    def refresh_context(self) -> int:
        """Store the shop context of the days that posted events belong to; returns the number of days."""
        return refresh_shop_context(SETTINGS)


@bentoml.service(
    workers=2 if SETTINGS.standby and memory_allows_standby() else 1,
    traffic={"timeout": REFRESH_SECONDS},
    http={"host": SETTINGS.api_host, "port": SETTINGS.api_port, "cors": {"enabled": False}},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(own_app, path="/")
class PurchaseService:
    """Which app users will buy within the next 24 hours?"""

    batch = bentoml.depends(BatchScorer)

    def __init__(self) -> None:
        end_with_supervisor(supervisor())
        predictions.on_refused = fast_path.record_refusal
        sys.setswitchinterval(SWITCH_SECONDS)
        if is_second_worker():
            own_app.state.leader_lock.wait_for_other_holder()
        refresher = ContextRefresher(self._refresh_context, SETTINGS.context_refresh_seconds)
        self.predictions = PredictionService(SETTINGS, first_model(SETTINGS), fast_path.metrics, refresher)
        fast_path.tracer = load_tracer()
        own_app.state.service = fast_path.service = self.predictions

    async def _refresh_context(self) -> None:
        await self.batch.to_async.refresh_context()


def _bentoml_openapi() -> dict[str, object]:
    """BentoML's own OpenAPI document, which lacks mounted routes."""
    return dict(PurchaseService.openapi_spec.asdict())  # type: ignore[attr-defined]


own_app.state.bentoml_openapi = _bentoml_openapi
PurchaseService.add_asgi_middleware(FastPathMiddleware, fast_path=fast_path)  # type: ignore[attr-defined]
