"""The service predicts the scored list's probabilities for every user of the Taobao log, for each family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.registry.promotion import Author, promote
from retail_core.scoring.scores import score
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.times import parse_instant
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.home_copies import copy_home, drop_database
from tests.serving import running_service

pytestmark = [pytest.mark.realdata, pytest.mark.integration, pytest.mark.long]

AS_OF = "2017-12-03T00:00:00+08:00"
INSTANT = parse_instant(AS_OF)


@pytest.fixture(scope="module")
def workspace(
    shared_data: Path, registered_template: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """The ingested log; some model is in production, so that the service can start."""
    home = tmp_path_factory.mktemp("taobao") / "home"
    settings = copy_home(registered_template, home).model_copy(update={"search_rows": 1_000})
    log = shared_data / "taobao" / "UserBehavior_head.csv.gz"
    with open_store(settings) as store:
        ingest(store, [log], sources.get_preset("taobao"), at=INSTANT)
        yield Workspace.synchronized(store)
    drop_database(settings)


@pytest.fixture(scope="module")
def api(workspace: Workspace) -> Iterator[httpx.Client]:
    with running_service(workspace.settings, workspace.settings.home_dir / "api.log") as client:
        yield client


@pytest.mark.parametrize("family", ["rf", "lightgbm", "logistic"])
def test_the_service_predicts_what_the_scored_list_has(
    workspace: Workspace, api: httpx.Client, tmp_path: Path, family: str
) -> None:
    report = train(workspace, as_of=INSTANT, options=TrainOptions(policies=("daily",), model=family))
    if not report.promoted:
        promote(workspace.store, report.version, Author("test"))
    scored = score(workspace, as_of=INSTANT, out=tmp_path / "scores.csv")
    listed = pd.read_csv(tmp_path / "scores.csv", dtype={"user_id": "str"})
    assert len(listed) == scored.users == 815
    assert champion_of(workspace.settings).spec.training["family"] == family
    assert api.post("/model/reload").json()["version"] == report.version
    predictions = [
        answer
        for start in range(0, len(listed), 500)
        for answer in api.post(
            "/predict",
            json=[{"user_id": u, "as_of": AS_OF} for u in listed["user_id"][start : start + 500]],
        ).json()
    ]
    assert [prediction["user_id"] for prediction in predictions] == listed["user_id"].tolist()
    frame = pd.DataFrame(predictions)
    assert (frame["probability"] - listed["probability"]).abs().max() <= 1e-6
    for flag in ("will_purchase", "contact"):
        assert frame[flag].tolist() == listed[flag].tolist()
