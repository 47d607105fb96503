"""Whatever family was trained on the Taobao log: the service answers what the morning's list says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.registry.versions import load_champion
from retail_core.scoring.scores import score
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store
from retail_core.times import parse_instant
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.workspace import Workspace
from tests.serving import running_service

pytestmark = [pytest.mark.realdata, pytest.mark.integration]

AS_OF = "2017-12-03T00:00:00+08:00"


@pytest.mark.parametrize("family", ["rf", "lightgbm", "logistic"])
def test_every_user_is_told_what_the_list_says(
    shared_data: Path, settings: Settings, store: Store, tmp_path: Path, family: str
) -> None:
    small = settings.model_copy(update={"search_rows": 1_000})
    instant = parse_instant(AS_OF)
    log = shared_data / "taobao" / "UserBehavior_head.csv.gz"
    ingest(store, [log], sources.get_preset("taobao"), at=instant)
    workspace = Workspace.synchronized(replace(store, settings=small))
    train(workspace, as_of=instant, options=TrainOptions(policies=("daily",), model=family))
    report = score(workspace, as_of=instant, out=tmp_path / "scores.csv")
    listed = pd.read_csv(tmp_path / "scores.csv", dtype={"user_id": "str"})
    assert len(listed) == report.users == 815
    assert load_champion(small).spec.training["family"] == family
    with running_service(small, tmp_path / "api.log") as api:
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
