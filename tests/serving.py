"""A real, small shop with a trained model, and the real service and app in front of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import httpx
import pandas as pd

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.lifecycle.scoring import score
from retail_core.model.training import TrainOptions, train
from retail_core.processes import answers, free_port, start, stop, wait_until
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.stack.services import variables
from retail_core.store.lake import Lake, sync
from retail_core.store.mongo import open_store

START = date(2025, 1, 1)
AS_OF = datetime(2025, 1, 29, tzinfo=UTC)
KEY = "a-key"


@dataclass(frozen=True)
class Shop:
    """Events, a production model, and what `retail score` says at `AS_OF`."""

    settings: Settings
    log: Path
    scores: pd.DataFrame


@cache
def trained_shop(folder: Path, mongodb_uri: str) -> Shop:
    """Simulate, ingest, train, score; once per process."""
    settings = Settings(
        home=folder / "home",
        mongodb_uri=mongodb_uri,
        mongodb_database=f"retail_{uuid.uuid4().hex[:12]}",
        search_rows=2_000,
        fit_rows=4_000,
    )
    folder.mkdir(exist_ok=True)
    log, out = folder / "log.csv", folder / "scores.csv"
    simulate(SimulationConfig(users=1_200, days=28, seed=5, start=START), log)
    with open_store(settings) as store:
        ingest(store, [log], sources.get("canonical"), at=AS_OF)
        sync(store)
        lake = Lake(settings.lake_url)
        report = train(store, lake, settings, as_of=AS_OF, options=TrainOptions(policies=("daily",)))
        assert report.promoted
        score(store, lake, settings, as_of=AS_OF, out=out)
    return Shop(settings, log, pd.read_csv(out, dtype={"user_id": "str"}))


def environment(settings: Settings) -> dict[str, str]:
    """This environment with exactly these settings."""
    given = variables(settings)
    kept = {name: value for name, value in os.environ.items() if name not in given}
    return kept | {name: value for name, value in given.items() if value is not None}


@contextmanager
def running_service(settings: Settings, log: Path) -> Iterator[httpx.Client]:
    """The service on a free port, as `retail serve` runs it; a client that sends the key."""
    port = free_port()
    own = settings.model_copy(update={"api_port": port})
    process = start("bentos.serve", ["--host", "127.0.0.1", "--port", str(port)], environment(own), log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/readyz"), process, log)
        headers = {"X-API-Key": KEY} if settings.api_keys else {}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield client
    finally:
        stop(process)
        assert process.returncode == 0, log.read_text()[-2000:]
