"""A small shop with a trained model, a home with a registered model only, and the real service over them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from retail_core import sources
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.ingest import ingest
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families import RankerConfig
from retail_core.model.families.random_forest import build_forest
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.search import SearchResult
from retail_core.model.spec import ModelSpec
from retail_core.registry import versions as registry
from retail_core.registry.promotion import Author, PromotionDecision, promote
from retail_core.registry.runs import RunLabel, training_run
from retail_core.scoring.scores import score
from retail_core.scoring.shop_context import store_shop_context
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.stack.services import variables
from retail_core.store.mongo.connection import open_store
from retail_core.subprocesses import free_port, is_reachable, start, stop, wait_until
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.home_copies import copy_home
from tests.process_environment import without_coverage

START = date(2025, 1, 1)
AS_OF = datetime(2025, 1, 29, tzinfo=UTC)
KEY = "a-key"
OPTIONS = TrainOptions(policies=("daily",), model="rf")
"""A forest, which answers through ONNX."""


@dataclass(frozen=True)
class Shop:
    """Events, a model in production, and the scores of every eligible user at `AS_OF`."""

    settings: Settings
    log: Path
    scores: pd.DataFrame

    def copy(self, home: Path) -> Shop:
        """The same shop in another home and database, which a test module may change."""
        return replace(self, settings=copy_home(self.settings, home))


def shop_settings(folder: Path, mongodb_uri: str, database: str) -> Settings:
    """Settings of the shop that `train_shop` creates in `folder`."""
    return Settings(
        home=folder / "home",
        mongodb_uri=mongodb_uri,
        mongodb_database=database,
        search_rows=2_000,
        fit_rows=4_000,
        standby=False,
    )


def train_shop(settings: Settings, options: TrainOptions = OPTIONS) -> Shop:
    """Simulate, ingest, train and score; the files are written beside the home."""
    folder = settings.home_dir.parent
    folder.mkdir(exist_ok=True)
    log, out = folder / "log.csv", folder / "scores.csv"
    simulate(SimulationConfig(users=1_200, days=28, seed=5, start=START), log)
    with open_store(settings) as store:
        ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
        workspace = Workspace.synchronized(store)
        store_shop_context(workspace)
        report = train(workspace, as_of=AS_OF, options=options)
        assert report.promoted
        score(workspace, as_of=AS_OF, out=out)
    return read_shop(settings)


def read_shop(settings: Settings) -> Shop:
    """The shop that `train_shop` has created with these settings."""
    folder = settings.home_dir.parent
    return Shop(settings, folder / "log.csv", pd.read_csv(folder / "scores.csv", dtype={"user_id": "str"}))


def environment(settings: Settings) -> dict[str, str]:
    """This environment with exactly these settings."""
    set_variables = variables(settings)
    inherited = {name: value for name, value in os.environ.items() if name not in set_variables}
    return inherited | {name: value for name, value in set_variables.items() if value is not None}


@dataclass(frozen=True)
class Service:
    """A running service: its settings, with the port, a client that sends the key, the file of its log."""

    settings: Settings
    client: httpx.Client
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"


@contextmanager
def running_service(
    settings: Settings,
    log: Path,
    *,
    ends_well: bool = True,
    health: str = "/readyz",
    is_measured: bool = False,
) -> Iterator[httpx.Client]:
    """The service on a free port, as `retail serve` runs it; yields a client that sends the key.

    Args:
        settings: those of the service; its port is replaced.
        log: file of its output.
        ends_well: whether exit code 0 is expected, as where no test kills one of its processes.
        health: path that answers when it has started; `/livez` for a service without a model.
        is_measured: whether its coverage is measured, as for the services that are asked most.
    """
    port = free_port()
    served = settings.model_copy(update={"api_port": port})
    variables = environment(served) if is_measured else without_coverage(environment(served))
    process = start("bentos.serve", ["--host", "127.0.0.1", "--port", str(port)], variables, log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_reachable(f"{url}{health}"), process, log)
        headers = {"X-API-Key": KEY} if settings.api_keys else {}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield client
    finally:
        stop(process)
        assert not ends_well or process.returncode == 0, log.read_text()[-2000:]


def send_file(api: httpx.Client, name: str, content: bytes, **form: str) -> str:
    """Send a file for scoring; returns the path of its job."""
    sent = api.post("/score_batch", files={"file": (name, content)}, data=form)
    assert sent.status_code == 202, sent.text
    return sent.headers["Location"]


def ended_job(api: httpx.Client, path: str, seconds: float = 180.0) -> dict[str, Any]:
    """The job of that path after it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job: dict[str, Any] = api.get(path).json()
        if job["state"] not in {"queued", "running"}:
            return job
        time.sleep(0.1)
    raise AssertionError(f"the job has not ended: {job}")


def scored_file(api: httpx.Client, name: str, content: bytes, **form: str) -> httpx.Response:
    """Send a file, wait for its job, and ask for the result."""
    path = send_file(api, name, content, **form)
    ended_job(api, path)
    return api.get(f"{path}/result")


def register_shop(settings: Settings, trees: int = 20) -> Settings:
    """Register version 1, a forest fitted to random rows, and promote it; the home has no events."""
    features = default_feature_set(PredictionTask())
    generator = np.random.default_rng(3)
    rows = generator.gamma(1.0, 2.0, (3_000, len(features.columns)))
    bought = generator.random(3_000) < 1 / (1 + np.exp(5 - rows[:, 0]))
    forest = build_forest(trees=trees, depth=8, leaf=5, seed=3).fit(to_matrix(rows), bought)
    model = CalibratedRanker({"daily": forest})
    model.calibrators = {"daily": fit_calibrator(model.raw_score(rows), bought)}
    figures = {"ap": 0.3, "auc": 0.8, "f1": 0.3, "base_rate": 0.04, "n": 1000, "positives": 40}
    spec = ModelSpec(
        version="",
        run_id="",
        trained_at=AS_OF,
        feature_set=features,
        policies=("daily",),
        thresholds={"daily": {"f1": 0.2, "recall": 0.02, "no-miss": 0.01, "contact": 0.02}},
        certificates={"daily": None},
        reasons={"daily": "too few buyers"},
        metrics={"daily": figures | {"population": "nobody"}},
        reference=figures | {"recall": 0.5, "false_positive_rate": 0.08},
        data={"rows": 1, "events": 0, "data_hash": "d", "last_event": None, "as_of": AS_OF.isoformat()},
        self_test={
            "rows": rows[:5].tolist(),
            "probability": {"daily": model.probability(rows[:5], "daily").tolist()},
        },
    )
    version = _register(settings, spec, model)
    with open_store(settings) as store:
        promote(store, version, Author("test"))
    return settings


def register_variant(settings: Settings, *, factor: float, honest: bool = True) -> str:
    """Register a version like the one in production whose prior is another: other probabilities.

    One that is not honest fails the test rows it is stored with.
    """
    spec, estimator = _variant(settings, factor, honest=honest)
    return _register(settings, spec, estimator)


def variant_candidate(
    settings: Settings, run_id: str, factor: float, decision: PromotionDecision
) -> registry.Candidate:
    """As `register_variant`, for a run and with a verdict, not yet registered."""
    spec, estimator = _variant(settings, factor)
    return registry.Candidate(
        replace(spec, run_id=run_id), estimator, None, {}, None, [], decision.reason, decision.tags()
    )


def _variant(settings: Settings, factor: float, *, honest: bool = True) -> tuple[ModelSpec, CalibratedRanker]:
    champion = champion_of(settings)
    estimator = copy(champion.estimator)
    estimator.factor *= factor
    rows = np.array(champion.spec.self_test["rows"], dtype=np.float64)
    probabilities = estimator.probability(rows, champion.spec.primary) + (0.0 if honest else 0.1)
    test = {
        "rows": champion.spec.self_test["rows"],
        "probability": {champion.spec.primary: probabilities.tolist()},
    }
    return replace(champion.spec, version="", self_test=test), estimator


def _register(settings: Settings, spec: ModelSpec, estimator: CalibratedRanker) -> str:
    search = SearchResult(RankerConfig("rf", {}), (), "none", "none", 0, 0, 1.0, 0.0)
    with training_run(settings, RunLabel("test")) as run:
        candidate = registry.Candidate(replace(spec, run_id=run.run_id), estimator, estimator, {}, search, [])
        return registry.log_and_register(settings, candidate).version
