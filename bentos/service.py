"""The two BentoML services: `PurchaseService` answers in real time, `BatchScorer` scores files beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.exceptions import BentoMLException
from pydantic import Field

from bentos import bentoml_patches
from bentos.admission import predictions
from bentos.context_refresh import ContextRefresher, refresh_shop_context
from bentos.http.access_log import AccessLog
from bentos.http.fast_path import FastPath, FastPathMiddleware
from bentos.http.guard import Guard
from bentos.http.key_ring import KeyRing
from bentos.http.routes import create_app
from bentos.json_logs import use_json_logs
from bentos.leader_lock import LeaderLock, is_second_worker, memory_allows_standby
from bentos.model_loader import LoadedModel, first_model, load_model
from bentos.model_store import variables
from bentos.prediction_service import PredictionService
from bentos.problems import as_error_text
from bentos.supervision import end_with_supervisor, supervisor
from bentos.tracing import load_tracer
from retail_core.api_keys import configured_keys
from retail_core.errors import RetailError
from retail_core.settings import Settings, load_settings
from retail_core.times import parse_instant

SETTINGS: Settings = load_settings()
BATCH_SECONDS = 3600
BATCH_NICENESS = 10
"""Gives the batch runner a ninth of a core that the real-time process wants too."""

REPORT_HEADER = "X-Score-Report"
CSV_HEADERS = {
    "Content-Type": "text/csv; charset=utf-8",
    "Content-Disposition": 'attachment; filename="scored.csv"',
}

SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter while the event loop waits; Python's default is 5 ms."""


def _guard() -> Guard:
    keys = KeyRing(configured_keys(SETTINGS), SETTINGS.api_keys_path)
    return Guard(keys, SETTINGS.upload_mb * 1024 * 1024, SETTINGS.rate_limit)


own_app = create_app()
own_app.state.leader_lock = LeaderLock(os.getppid(), Path(variables(SETTINGS)["BENTOML_HOME"]))
own_app.state.access_log = AccessLog(enabled=SETTINGS.access_log, as_json=SETTINGS.log_format == "json")
fast_path = FastPath(own_app, _guard(), own_app.state.access_log)
bentoml_patches.apply()
if SETTINGS.log_format == "json":
    use_json_logs()


@bentoml.service(workers=1, traffic={"timeout": BATCH_SECONDS}, resources={"cpu": "1"})
class BatchScorer:
    """Scores files, in a process of its own, so that no file delays a real-time prediction."""

    def __init__(self) -> None:
        end_with_supervisor(supervisor())
        os.nice(BATCH_NICENESS)
        self._loaded: LoadedModel | None = None

    @bentoml.api  # type: ignore[untyped-decorator]
    def score(
        self, path: str, out: str, tag: str, dialect: dict[str, str], as_of: str, reasons: int
    ) -> dict[str, str]:
        """Score the file at `path` with the model `tag`, write `out`, return a `report` or a `problem`.

        `dialect` has the preset `source`, or the text of a `mapping`.
        """
        # The real-time process imports this module too, and starts a second sooner without these.
        from bentos.batch import BatchRequest, score_file
        from bentos.batch_files import dialect_of, read_upload

        try:
            if self._loaded is None or self._loaded.tag != tag:
                self._loaded = load_model(SETTINGS, tag)
            served = self._loaded.served
            upload = read_upload(Path(path), dialect_of(**dialect), served.spec.feature_set)
            cutoff = parse_instant(as_of) if as_of else None
            request = BatchRequest(cutoff, datetime.now(UTC), reasons)
            report = score_file(served, upload, Path(out), request, SETTINGS)
        except RetailError as error:
            # Column names of a file that is not text may hold bytes that JSON cannot.
            message = error.message.replace(path, "The file").encode("utf-8", "backslashreplace").decode()
            return {"problem": message, "remedy": error.remedy}
        return {"report": report.header()}

    @bentoml.api  # type: ignore[untyped-decorator]
    def refresh_context(self) -> int:
        """Store the shop context of the days that posted events belong to; returns the number of days."""
        return refresh_shop_context(SETTINGS)


@bentoml.service(
    workers=2 if SETTINGS.standby and memory_allows_standby() else 1,
    traffic={"timeout": BATCH_SECONDS},
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

    @bentoml.task  # type: ignore[untyped-decorator]
    async def score_batch(
        self,
        ctx: bentoml.Context,
        file: Annotated[Path, Field(description="CSV (also .gz) or Parquet of events, or of features.")],
        source: Annotated[str, Field(description="The preset of the file's source.")] = "canonical",
        mapping: Annotated[
            str | dict[str, Any],
            Field(description="Instead of a source: YAML (or JSON) text that maps the file, up to 64 KiB."),
        ] = "",
        as_of: Annotated[
            str, Field(description="ISO 8601; default: next midnight if the last day is complete.")
        ] = "",
        reasons: Annotated[
            int, Field(ge=0, description="Number of the most likely buyers that get reasons, in a column.")
        ] = 0,
    ) -> bytes:
        """Score every user of a file. The response is a CSV; its header X-Score-Report has the counts."""
        out = Path(ctx.temp_dir) / "scored.csv"
        result = await self.batch.to_async.score(
            path=str(file),
            out=str(out),
            tag=self.predictions.reloader.loaded.tag,
            dialect={"source": source, "mapping": _mapping_text(mapping)},
            as_of=as_of,
            reasons=reasons,
        )
        if "problem" in result:
            text = as_error_text(result["problem"], result["remedy"])
            raise BentoMLException(text, error_code=HTTPStatus.BAD_REQUEST)
        ctx.response.metadata.update({REPORT_HEADER: result["report"], **CSV_HEADERS})
        return await asyncio.to_thread(out.read_bytes)


def _mapping_text(mapping: str | dict[str, Any]) -> str:
    """The mapping as text again: BentoML has parsed one that is JSON."""
    return mapping if isinstance(mapping, str) else json.dumps(mapping, ensure_ascii=False)


def _bentoml_openapi() -> dict[str, object]:
    """BentoML's own OpenAPI document, which lacks mounted routes."""
    return dict(PurchaseService.openapi_spec.asdict())  # type: ignore[attr-defined]


own_app.state.bentoml_openapi = _bentoml_openapi
PurchaseService.add_asgi_middleware(FastPathMiddleware, fast_path=fast_path)  # type: ignore[attr-defined]
