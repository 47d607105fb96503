"""The two runners: `PurchaseService` answers at once, `BatchScorer` works through files beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.exceptions import BentoMLException
from pydantic import Field

from bentos import bentoml_patches, models
from bentos.access import AccessLog
from bentos.api import Api
from bentos.batch_report import HEADER
from bentos.environment import variables
from bentos.front import Front, StepInFront
from bentos.guard import Guard
from bentos.problems import as_error_text
from bentos.routes import create_app
from bentos.standby import Turn, is_second, room_for_two
from retail_core.errors import RetailError
from retail_core.settings import Settings, load_settings
from retail_core.times import parse_instant

SETTINGS: Settings = load_settings()
BATCH_SECONDS = 3600
BATCH_NICENESS = 10
"""The batch runner takes what the real-time process leaves of the cores: a ninth of one that both want."""

CSV_HEADERS = {
    "Content-Type": "text/csv; charset=utf-8",
    "Content-Disposition": 'attachment; filename="scored.csv"',
}

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter while the loop waits; Python's 5 ms would be seen in answers."""


def _guard() -> Guard:
    keys = SETTINGS.api_keys.get_secret_value() if SETTINGS.api_keys else ""
    accepted = tuple(key.strip() for key in keys.split(",") if key.strip())
    return Guard(accepted, SETTINGS.upload_mb * 1024 * 1024, SETTINGS.rate_limit)


api_app = create_app()
api_app.state.turn = Turn(os.getppid(), Path(variables(SETTINGS)["BENTOML_HOME"]))
api_app.state.access = AccessLog(enabled=SETTINGS.access_log)
front = Front(api_app, _guard(), api_app.state.access)
bentoml_patches.apply()


@bentoml.service(workers=1, traffic={"timeout": BATCH_SECONDS}, resources={"cpu": "1"})
class BatchScorer:
    """Scores whole files, in a process of its own, so that no file slows a real-time answer."""

    def __init__(self) -> None:
        os.nice(BATCH_NICENESS)
        self._loaded: models.Loaded | None = None

    @bentoml.api  # type: ignore[untyped-decorator]
    def score(self, path: str, out: str, tag: str, source: str, as_of: str, reasons: int) -> dict[str, str]:
        """Score the file at `path` with the model `tag`, writing `out`; a `report` or a `problem`."""
        # The real-time process imports this module too, and starts a second sooner without these.
        from bentos.batch import context_of, default_as_of, score_file
        from bentos.batch_files import read_upload

        try:
            if self._loaded is None or self._loaded.tag != tag:
                self._loaded = models.load(SETTINGS, tag)
            served = self._loaded.served
            upload = read_upload(Path(path), source, served.spec.feature_set)
            instant = parse_instant(as_of) if as_of else default_as_of(upload, datetime.now(UTC))
            context = context_of(SETTINGS, served.spec, instant)
            report = score_file(served, upload, Path(out), as_of=instant, context=context, reasons=reasons)
        except RetailError as error:
            # Columns of a file that is no text may hold bytes that JSON cannot.
            message = error.message.replace(path, "The file").encode("utf-8", "backslashreplace").decode()
            return {"problem": message, "remedy": error.remedy}
        return {"report": report.header()}


@bentoml.service(
    workers=2 if SETTINGS.standby and room_for_two() else 1,
    traffic={"timeout": BATCH_SECONDS},
    http={"host": SETTINGS.api_host, "port": SETTINGS.api_port, "cors": {"enabled": False}},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(api_app, path="/")
class PurchaseService:
    """Which app users will buy within the next 24 hours?"""

    batch = bentoml.depends(BatchScorer)

    def __init__(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        if is_second():
            api_app.state.turn.after_the_first()
        self.api = Api(SETTINGS, models.load(SETTINGS), front.meters)
        api_app.state.api = front.api = self.api

    async def __metrics__(self, bentos_own: str) -> str:
        """What `/metrics` shows: BentoML's figures and ours."""
        return bentos_own + front.meters.text()

    @bentoml.task  # type: ignore[untyped-decorator]
    async def score_batch(
        self,
        ctx: bentoml.Context,
        file: Annotated[Path, Field(description="CSV (also .gz) or Parquet of events, or of features.")],
        source: Annotated[str, Field(description="Which preset wrote the file.")] = "canonical",
        as_of: Annotated[str, Field(description="ISO 8601; default 1 ms after the newest event.")] = "",
        reasons: Annotated[
            int, Field(ge=0, description="So many of the most likely buyers are told why, in a column.")
        ] = 0,
    ) -> bytes:
        """Score every user of a file. The answer is a CSV; its header X-Score-Report has the counts."""
        out = Path(ctx.temp_dir) / "scored.csv"
        answer = await self.batch.to_async.score(
            path=str(file),
            out=str(out),
            tag=self.api.model.loaded.tag,
            source=source,
            as_of=as_of,
            reasons=reasons,
        )
        if "problem" in answer:
            text = as_error_text(answer["problem"], answer["remedy"])
            raise BentoMLException(text, error_code=HTTPStatus.BAD_REQUEST)
        ctx.response.metadata.update({HEADER: answer["report"], **CSV_HEADERS})
        return await asyncio.to_thread(out.read_bytes)


def _bento_document() -> dict[str, object]:
    """BentoML's own OpenAPI document, which leaves mounted routes out."""
    return dict(PurchaseService.openapi_spec.asdict())  # type: ignore[attr-defined]


api_app.state.bento_document = _bento_document
PurchaseService.add_asgi_middleware(StepInFront, front=front)  # type: ignore[attr-defined]
