"""The demo: the main job end to end on a simulated shop, with flows as subprocesses and a real service.

It has its own home below `RETAIL_HOME`, named after its parameters, so that it never touches the user's
data and a second run with the same parameters resumes the first.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.file_locks import create_private_folder
from retail_core.settings import Settings
from retail_core.settings_files import CONFIG_VARIABLE
from retail_core.simulate import SimulationConfig, simulate
from retail_core.store.mongod.embedded import stop_mongod
from retail_core.subprocesses import call_json, free_port, is_reachable, start, stop, wait_until
from retail_core.times import midnights, parse_instant
from retail_core.workspace import open_workspace

StepProgress = Callable[[str, int, int], None]
STEPS = ("simulate", "ingest", "train", "score", "serve", "ask")
"""Steps of the demo, in order."""

SHOWN_COLUMNS = ("rank", "user_id", "probability", "will_purchase", "contact")
"""Columns of the score file that the demo prints."""


@dataclass(frozen=True)
class DemoConfig:
    """Size and seed of the simulated shop."""

    users: int
    days: int
    seed: int


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo."""

    events: int
    users: int
    metrics: Mapping[str, object]
    truth_ap: float
    threshold: float
    top_users: list[dict[str, object]]
    live: Mapping[str, object]
    audience_file: Path
    home: Path
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """The JSON of `retail demo --json`."""
        return {**vars(self), "audience_file": str(self.audience_file), "home": str(self.home)}

    def headline(self) -> dict[str, object]:
        """Rows of the printed table."""
        m = self.metrics
        period = f"{m['first_cutoff']} to {m['last_cutoff']}"
        return {
            "events ingested": self.events,
            "users simulated": self.users,
            "judged on": f"{m['population']}, {period}, n={m['n']:,}, buyers={m['positives']:,}",
            "base rate": m["base_rate"],
            "average precision": m["ap"],
            "... of the true probabilities, same rows": self.truth_ap,
            "ROC-AUC": m["auc"],
            "F1 / precision / recall": f"{m['f1']:.3f} / {m['precision']:.3f} / {m['recall']:.3f}",
            "Brier / ECE": f"{m['brier']:.4f} / {m['ece']:.4f}",
            "contact at or above": self.threshold,
            "live answer": f"{self.live['user_id']} at {self.live['as_of']}: {self.live['probability']:.4f}",
            "scored users": str(self.audience_file),
        }

    def next_steps(self) -> str:
        """How to explore the demo's home."""
        return (
            f"Look around:  RETAIL_HOME={self.home} .venv/bin/retail up\n"
            "  MLflow http://127.0.0.1:5000   Prefect http://127.0.0.1:4200\n"
            "  API    http://127.0.0.1:8080/docs   App http://127.0.0.1:8501"
        )


def demo_settings(settings: Settings, config: DemoConfig) -> Settings:
    """`settings` moved to the demo's own home and to the embedded MongoDB, MLflow and Prefect."""
    home = settings.home_dir / "demo" / f"u{config.users}-d{config.days}-s{config.seed}"
    overrides = {"home": home, "mongodb_uri": None, "mlflow_tracking_uri": None, "prefect_api_url": None}
    overrides |= {"bentoml_home": None, "lake": None, "timezone": None, "api_keys": None}
    overrides |= {"api_keys_file": None, "client_key": None}
    return settings.model_copy(update=overrides)


def demo_environment(settings: Settings) -> dict[str, str]:
    """Environment in which a subprocess uses the demo's home and none of the user's settings."""
    removed = {"RETAIL_MONGODB_URI", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "RETAIL_LAKE"}
    removed |= {"RETAIL_TIMEZONE", "RETAIL_API_KEYS", "RETAIL_API_KEYS_FILE", "RETAIL_CLIENT_KEY"}
    removed |= {"PREFECT_HOME", "BENTOML_HOME"}
    inherited = {name: value for name, value in os.environ.items() if name not in removed}
    return {**inherited, "RETAIL_HOME": str(settings.home_dir), CONFIG_VARIABLE: ""}


def run_demo(settings: Settings, config: DemoConfig, advance: StepProgress) -> DemoResult:
    """Run the main job and stop everything it started.

    Raises:
        RetailError: a step failed; its own message.
    """
    demo = demo_settings(settings, config)
    environment = demo_environment(demo)
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        advance(name, STEPS.index(name), len(STEPS))
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 1)

    log, truth, scores = (demo.home_dir / name for name in ("log.csv", "truth.parquet", "scores.csv"))
    create_private_folder(demo.home_dir)
    try:
        with step("simulate"):
            population = SimulationConfig(users=config.users, days=config.days, seed=config.seed)
            simulated = simulate(population, log, truth)
        with step("ingest"):
            call_json("flows.ingest", [str(log), "--source", "canonical"], environment)
        with step("train"):
            trained = call_json("flows.train", [], environment)
        with step("score"):
            scored = call_json("flows.score", ["--out", str(scores)], environment)
        top = top_users(scores)
        with step("serve"):
            server, url = serve(demo, environment)
        try:
            with step("ask"):
                live = predict_live(url, str(top[0]["user_id"]), scored["as_of"])
        finally:
            stop(server)
        truth_ap = average_precision_of_truth(demo, truth, trained["periods"]["test"])
    finally:
        stop_mongod(demo)
    seconds["total"] = round(sum(seconds.values()), 1)
    return DemoResult(
        events=simulated.events,
        users=simulated.users,
        metrics=trained["metrics"],
        truth_ap=truth_ap,
        threshold=trained["threshold"],
        top_users=top,
        live=live,
        audience_file=scores,
        home=demo.home_dir,
        seconds=seconds,
    )


def top_users(scores: Path, count: int = 10) -> list[dict[str, object]]:
    """The first `count` rows of a score file, which is sorted by rank."""
    with scores.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [{name: row[name] for name in SHOWN_COLUMNS} for row in islice(rows, count)]


def serve(settings: Settings, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start the service on a free port and wait until it is ready. Returns it and its URL."""
    port = free_port()
    log = settings.home_dir / "logs" / "api.log"
    server = start("bentos.serve", ["--host", "127.0.0.1", "--port", str(port)], environment, log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_reachable(f"{url}/readyz"), server, log)
    except BaseException:
        stop(server)
        raise
    return server, url


def predict_live(url: str, user_id: str, as_of: str) -> dict[str, Any]:
    """Prediction of the running service for one user."""
    body = json.dumps({"user_id": user_id, "as_of": as_of}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own service on loopback
        f"{url}/predict", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # nosec B310 # noqa: S310
        answer: dict[str, Any] = json.load(response)
    return answer


def average_precision_of_truth(settings: Settings, truth: Path, period: Mapping[str, str]) -> float:
    """Average precision of the simulator's true probabilities on the rows of the test period."""
    from sklearn.metrics import average_precision_score

    first, last = (parse_instant(period[end]) for end in ("first_cutoff", "last_cutoff"))
    with open_workspace(settings) as workspace:
        pairs = daily_pairs(workspace.lake, workspace.task, list(midnights(first, last, workspace.zone)))
    true_rows = pd.read_parquet(truth)
    true_rows["as_of"] = pd.to_datetime(true_rows["as_of"], utc=True).astype("datetime64[ms, UTC]")
    rows = pairs.merge(true_rows, on=["user_id", "as_of"], how="inner", validate="one_to_one")
    return float(average_precision_score(rows["purchased"], rows["probability"]))
