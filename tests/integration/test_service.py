"""The real service, started as a user starts it, over a really trained model."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import uvicorn
from bentoml.exceptions import BentoMLException
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from bentos.event_writer import MAX_PENDING
from bentos.exposition import exposition
from bentos.http.access_log import AccessLog
from bentos.http.fast_path import FastPath
from bentos.http.guard import Guard
from bentos.http.key_ring import CHECK_SECONDS, KeyRing
from bentos.http.routes import create_app
from bentos.messages import Answer
from bentos.model_loader import LoadedModel
from bentos.prediction_service import PredictionService
from bentos.predictor import PreparedItem, add_reasons, predict, with_requested_reasons
from bentos.problems import Problem
from retail_core.alerts.raising import newest_alerts
from retail_core.api_keys import Scope, add_key, remove_key
from retail_core.client import AsyncClient, Client, PredictRequest, RejectedRequest, UserPrediction
from retail_core.errors import DataError, DependencyError, InputError
from retail_core.features.feature_export import export_features
from retail_core.privacy import erasure
from retail_core.registry.promotion_record import history
from retail_core.scoring.scores import score
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake
from retail_core.store.mongo.connection import open_store
from retail_core.store.mongod.embedded import ensure_mongod, mongod_status, stop_mongod
from retail_core.subprocesses import free_port
from retail_core.times import iso
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.serving import AS_OF, KEY, Shop, ended_job, running_service, scored_file, send_file

pytestmark = pytest.mark.integration

INSTANT = AS_OF.isoformat()


@pytest.fixture(scope="module")
def settings(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two keys of the settings, and a file of keys that the tests write."""
    file = tmp_path_factory.mktemp("keys") / "api-keys.json"
    changes = {"api_keys": SecretStr(f"other, {KEY}"), "api_keys_file": file, "upload_mb": 20}
    return shop.settings.model_copy(update=changes)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("logs") / "api.log"
    with running_service(settings, log, is_measured=True) as client:
        yield client


def ask(api: httpx.Client, body: object) -> httpx.Response:
    return api.post("/predict", json=body)


def service_without_loading(settings: Settings, shop: Shop, fast_path: FastPath) -> PredictionService:
    """A service in this process with the shop's champion, not imported into BentoML's store."""
    loaded = LoadedModel("tag", champion_of(shop.settings))
    return PredictionService(settings, loaded, fast_path.metrics)


def metric_samples(api: httpx.Client) -> list[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each of the service's own samples."""
    families = text_string_to_metric_families(api.get("/metrics").text)
    return [
        (sample.name, sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if sample.name.startswith("retail_")
    ]


def without_context(api: httpx.Client) -> float:
    (count,) = [value for name, _, value in metric_samples(api) if name == "retail_without_context_total"]
    return count


def parquet(**columns: list[object]) -> bytes:
    target = io.BytesIO()
    pd.DataFrame(columns).to_parquet(target)
    return target.getvalue()


def test_stored_users_get_the_probability_of_the_morning_list(api: httpx.Client, shop: Shop) -> None:
    expected = pd.concat([shop.scores.head(150), shop.scores.tail(50)])
    answer = ask(api, [{"user_id": user, "as_of": INSTANT} for user in expected["user_id"]])
    predicted = pd.DataFrame(answer.json())
    assert predicted["user_id"].tolist() == expected["user_id"].tolist()
    assert (predicted["probability"] - expected["probability"].to_numpy()).abs().max() <= 1e-6
    assert predicted["will_purchase"].tolist() == expected["will_purchase"].tolist()
    assert predicted["contact"].tolist() == expected["contact"].tolist()
    assert (predicted["contact"] == (predicted["probability"] >= predicted["threshold"])).all()
    assert set(predicted["policy"]) == {"daily"}
    assert set(predicted["history"]) == {"stored"}
    assert predicted["eligible"].all()


def test_a_day_that_was_never_scored_gets_the_probability_of_the_batch(
    api: httpx.Client, shop: Shop, tmp_path: Path
) -> None:
    day, out = AS_OF - timedelta(days=3), tmp_path / "scores.csv"
    with open_store(shop.settings) as store:
        score(Workspace(store), as_of=day, out=out, keep=False)
    expected = pd.read_csv(out, dtype={"user_id": "str"}).head(200)
    predicted = ask(api, [{"user_id": user, "as_of": day.isoformat()} for user in expected["user_id"]]).json()
    assert [prediction.get("warnings") for prediction in predicted] == [None] * len(predicted)
    assert abs(pd.DataFrame(predicted)["probability"] - expected["probability"]).max() <= 1e-6


def test_a_prediction_without_stored_context_has_a_warning(api: httpx.Client, shop: Shop) -> None:
    day, user = AS_OF + timedelta(days=1), str(shop.scores["user_id"].iloc[0])
    with open_store(shop.settings) as store:
        assert store.context.count_documents({"day": day.date().isoformat()}) == 0
    question = {"user_id": user, "as_of": day.isoformat()}
    before = without_context(api)
    (warning,) = ask(api, question).json()["warnings"]
    assert "2025-01-30" in warning
    assert "warnings" not in ask(api, {**question, "features": {}}).json()
    assert without_context(api) == before + 1
    assert "usual values" in warning
    # A file that spans enough days has a context of its own.
    for as_of, context in ((day.isoformat(), "file"), (INSTANT, "stored")):
        answer = scored_file(api, "log.csv", shop.log.read_bytes(), as_of=as_of)
        assert answer.status_code == 200, answer.text
        report = json.loads(answer.headers["X-Score-Report"])
        assert (report["context"], report["warnings"]) == (context, [])


def test_posted_events_count_in_the_next_prediction_and_only_once(api: httpx.Client) -> None:
    event = {"user_id": "posted", "event_time": "2025-01-28T23:00:00Z", "event_type": "add_to_cart"}
    question = {"user_id": "posted", "as_of": INSTANT}
    unknown = ask(api, question)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/docs#unknown-user")
    item = {"item_id": "i1", "price": "19.90", "quantity": 1}
    first = api.post("/events", json=event | item)
    assert first.status_code == 202, first.text
    assert (first.json()["received"], first.json()["inserted"]) == (1, 1)
    repeated = api.post("/events", json=[event | item, {**event, "event_time": "yesterday"}])
    assert {name: repeated.json()[name] for name in ("received", "inserted", "duplicates", "refused")} == {
        "received": 2,
        "inserted": 0,
        "duplicates": 1,
        "refused": 1,
    }
    stored = ask(api, question).json()
    assert stored["history"] == "stored"
    same = ask(api, {**question, "user_id": "posted", "events": [event | item]}).json()
    assert same["probability"] == stored["probability"]
    never_stored = ask(
        api, {"user_id": "new", "as_of": INSTANT, "events": [event | item | {"user_id": "new"}]}
    )
    assert never_stored.json()["probability"] == stored["probability"]
    assert never_stored.json()["history"] == "stored+request"


def test_posted_events_with_two_ids_make_them_one_person(api: httpx.Client) -> None:
    cart = {
        "event_time": "2025-01-28T22:00:00Z",
        "event_type": "add_to_cart",
        "item_id": "i1",
        "price": "9.90",
    }
    login = {"event_time": "2025-01-28T22:30:00Z", "event_type": "view_item", "item_id": "i2"}
    ids = {"user_id": "k-1", "anonymous_id": "a-1"}
    posted = api.post("/events", json=[cart | {"anonymous_id": "a-1"}, login | ids])
    assert (posted.status_code, posted.json()["inserted"], posted.json()["links"]) == (202, 2, 1)
    assert posted.json()["unread_fields"] == []
    api.post("/events", json=[cart | {"user_id": "one-id"}, login | {"user_id": "one-id"}])
    expected = ask(api, {"user_id": "one-id", "as_of": INSTANT}).json()["probability"]
    answers = ask(api, [{"user_id": user, "as_of": INSTANT} for user in ("a-1", "k-1")]).json()
    assert [(answer["user_id"], answer["probability"]) for answer in answers] == [
        ("a-1", expected),
        ("k-1", expected),
    ]
    before = "2025-01-28T22:30:00Z"
    assert ask(api, {"user_id": "k-1", "as_of": before}).status_code == 404
    assert ask(api, {"user_id": "a-1", "as_of": before}).status_code == 200


def test_reasons_come_where_they_are_asked_for(api: httpx.Client, shop: Shop) -> None:
    top, idle = shop.scores["user_id"].iloc[0], shop.scores["user_id"].iloc[-1]
    explained = ask(api, {"user_id": top, "as_of": INSTANT, "reasons": True}).json()
    plain = ask(api, {"user_id": top, "as_of": INSTANT}).json()
    assert plain == {name: value for name, value in explained.items() if name != "reasons"}
    assert 1 <= len(explained["reasons"]) <= 3
    assert explained["reasons"][0]["effect"] == "raises"
    both = ask(
        api, [{"user_id": idle, "as_of": INSTANT}, {"user_id": top, "as_of": INSTANT, "reasons": True}]
    )
    assert "reasons" not in both.json()[0]
    assert both.json()[1] == explained
    assert ask(api, {"user_id": top, "reasons": "why"}).status_code == 422
    in_file = shop.scores.set_index("user_id").loc[top, "reasons"]
    assert in_file == "; ".join(f"{reason['effect']}: {reason['text']}" for reason in explained["reasons"])


def test_the_cost_of_reasons_per_request_is_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bentos.predictor.REASON_BUDGET", 0)
    served = champion_of(shop.settings)
    features = dict.fromkeys(served.spec.feature_set.columns, 1.0)
    items = [
        PreparedItem("a", AS_OF, features={}),
        *(
            PreparedItem(user, AS_OF, features={"unknown": 1.0} if user == "b" else features, reasons=True)
            for user in "bcd"
        ),
    ]
    outcomes = predict(served, items)
    add_reasons(served, list(with_requested_reasons(items, outcomes)))
    plain, refused, explained, beyond = outcomes
    assert isinstance(refused, Problem)
    assert isinstance(plain, Answer)
    assert plain.reasons is None
    assert isinstance(explained, Answer)
    assert explained.reasons
    assert isinstance(beyond, Answer)
    assert (beyond.reasons, len(beyond.warnings)) == (None, 1)


def test_features_alone_are_enough(api: httpx.Client, settings: Settings) -> None:
    champion = champion_of(settings)
    columns = list(champion.spec.feature_set.columns)
    values = dict.fromkeys(columns[:-2], 1.0)
    frame = pd.DataFrame([values], columns=columns).astype("float64")
    expected = champion.predict(frame, "daily")["probability"].iloc[0]
    answer = ask(api, {"user_id": "f", "as_of": INSTANT, "features": {**values, columns[-1]: None}}).json()
    assert answer["probability"] == pytest.approx(expected, abs=1e-9)
    assert answer["features_missing"] == 2
    refused = ask(api, {"user_id": "f", "features": {"no_such": 1}})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"field": "features.no_such", "rule": "the model has no feature of this name (GET /model lists them)"}
    ]


def test_a_bad_item_does_not_affect_the_others(api: httpx.Client, shop: Shop) -> None:
    good = shop.scores["user_id"].iloc[0]
    bad_event = [{"event_time": "2025-01-28T12:00:00Z", "event_type": "view_item", "price": "-1"}]
    items = [
        {"user_id": good, "as_of": INSTANT},
        {"user_id": 7},
        {"user_id": "u", "as_of": "someday"},
        {"user_id": "u", "as_of": "0001-01-01T00:00:00Z"},
        {"user_id": "u", "as_of": "9999-12-31T23:59:59Z"},
        {"user_id": "u", "surprise": 1},
        {"user_id": "u", "as_of": INSTANT, "events": bad_event},
        {"user_id": "nobody", "as_of": INSTANT},
        {"user_id": good, "as_of": INSTANT},
    ]
    entries = ask(api, items).json()
    assert entries[0] == entries[-1]
    assert entries[0]["probability"] == pytest.approx(shop.scores["probability"].iloc[0], abs=1e-6)
    errors = [entry["error"] for entry in entries[1:-1]]
    assert [error["status"] for error in errors] == [422] * 6 + [404]
    fields = [error["errors"][0]["field"] for error in errors[:-1]]
    assert fields == ["user_id", *["as_of"] * 3, "surprise", "events[0].price"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, "not-json"),
        (b"[]", 422, "invalid-request"),
        (b'"u1"', 422, "invalid-request"),
        (b'{"user_id":"u","events":[],"features":{}}', 422, "invalid-request"),
        (b'{"user_id":""}', 422, "invalid-request"),
        (json.dumps([{"user_id": "u"}] * 1001).encode(), 422, "invalid-request"),
        (b" " * (17 * 1024 * 1024), 413, "too-large"),
    ],
)
def test_unusable_bodies_get_a_problem(api: httpx.Client, body: bytes, status: int, kind: str) -> None:
    answer = api.post("/predict", content=body)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs#{kind}")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"user_id": "u", "features": {"a": 1.0, "event_count_1h": "a"}}, "features.event_count_1h"),
        ({"features": {}}, "user_id"),
        ({"user_id": "u", "bogus": 1}, "bogus"),
        ({"user_id": "u", "events": [{}, 3]}, "events[1]"),
    ],
)
def test_a_problem_names_the_field(api: httpx.Client, item: dict[str, object], field: str) -> None:
    (error,) = ask(api, item).json()["errors"]
    assert error["field"] == field
    (listed,) = ask(api, [item]).json()
    assert listed["error"]["errors"] == [error]


def test_without_a_key_only_health_and_documentation_are_open(api: httpx.Client) -> None:
    for key in ("", "wrong", KEY[:-1]):
        answer = api.get("/model", headers={"X-API-Key": key})
        assert (answer.status_code, answer.json()["type"]) == (401, "/docs#api-key")
        assert api.post("/score_batch", headers={"X-API-Key": key}).status_code == 401
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert api.get(path, headers={"X-API-Key": ""}).status_code == 200


def test_each_route_needs_the_scope_that_its_documentation_names(
    api: httpx.Client, settings: Settings
) -> None:
    keys = {
        scope: add_key(settings.api_keys_path, f"only-{scope}", [scope], datetime.now(UTC)) for scope in Scope
    }
    time.sleep(CHECK_SECONDS)
    paths = api.get("/openapi.json").json()["paths"]
    operations = [(path, method, paths[path][method]) for path in paths for method in paths[path]]
    assert len(operations) >= 15
    for path, method, operation in operations:
        needed = [scope for option in operation["security"] for scope in option.get("apiKey", ())]
        for scope, key in keys.items():
            answer = api.request(method, path, headers={"X-API-Key": key})
            if needed in ([], [scope]):
                assert answer.status_code not in {401, 403}, (path, method, scope)
            else:
                assert (answer.status_code, answer.json()["type"]) == (403, "/docs#scope"), (path, method)
                assert f"`{needed[0]}`" in answer.json()["detail"]
        anonymous = api.request(method, path, headers={"X-API-Key": ""})
        assert (anonymous.status_code == 401) == bool(operation["security"]), (path, method)


def test_a_removed_key_is_refused_by_the_running_service(api: httpx.Client, settings: Settings) -> None:
    key = add_key(settings.api_keys_path, "short-lived", [Scope.PREDICT], datetime.now(UTC))
    time.sleep(CHECK_SECONDS)
    assert api.get("/model", headers={"X-API-Key": key}).status_code == 200
    counted = {"key": "short-lived"}
    assert any(
        name == "retail_key_requests_total" and labels == counted for name, labels, _ in metric_samples(api)
    )
    remove_key(settings.api_keys_path, "short-lived")
    time.sleep(CHECK_SECONDS)
    assert api.get("/model", headers={"X-API-Key": key}).status_code == 401


def test_documents_name_every_route_and_need_no_network(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/predict", "/events", "/model", "/model/reload", "/score_batch", "/readyz"} <= set(paths)
    assert {"/model/history", "/alerts/run"} <= set(paths)
    page = api.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert api.get(f"/docs/{asset}").status_code == 200
        assert asset in page


def test_unknown_paths_and_methods_are_problems(api: httpx.Client) -> None:
    for answer, status in ((api.get("/nothing"), 404), (api.get("/predict"), 405)):
        assert answer.status_code == status
        assert answer.json()["status"] == status


def test_the_model_is_described_and_reloaded(api: httpx.Client, settings: Settings) -> None:
    model = api.get("/model").json()
    champion = champion_of(settings)
    assert model["version"] == champion.spec.version
    assert model["feature_set_hash"] == champion.spec.feature_set.hash
    assert model["threshold"] == champion.spec.thresholds["daily"]["contact"]
    assert model["metrics"]["base_rate"] == model["base_rate"]
    reloaded = api.post("/model/reload")
    assert reloaded.status_code == 200, reloaded.text
    assert reloaded.json()["version"] == model["version"]


def test_the_history_says_who_promoted_what_and_why(api: httpx.Client, settings: Settings) -> None:
    (entry,) = api.get("/model/history").json()["history"]
    with open_store(settings) as store:
        (recorded,) = history(store)
    assert entry["number"] == recorded["_id"]
    assert (entry["version"], entry["previous"]) == (recorded["version"], None)
    assert (entry["actor"], entry["reason"]) == (recorded["actor"], recorded["reason"])
    assert entry["at"] == iso(recorded["at"])


def test_reports_of_runs_are_alerts_once_per_flow(api: httpx.Client, settings: Settings) -> None:
    report = {"flow": "score", "run": "score 2025-02-01", "state": "Failed", "message": "MongoDB is away."}
    for _ in range(2):
        assert api.post("/alerts/run", json=report).status_code == 202
    assert api.post("/alerts/run", json=report | {"state": "Late"}).status_code == 202
    assert api.post("/alerts/run", json=report | {"state": "Completed"}).status_code == 422
    with open_store(settings) as store:
        alerts = {alert["_id"]: alert for alert in newest_alerts(store, 9) if alert["key"] == "score"}
    assert set(alerts) == {"run_failed:score", "run_late:score"}
    assert alerts["run_failed:score"]["count"] == 2
    assert "MongoDB is away." in alerts["run_failed:score"]["text"]


def test_a_file_of_events_comes_back_scored(api: httpx.Client, shop: Shop) -> None:
    broken = shop.log.read_bytes() + b"x,,not a time,view_item,,,,,,,,,\n"
    answer = scored_file(api, "log.csv", broken, as_of=INSTANT, reasons="7")
    assert answer.status_code == 200, answer.text
    scored = pd.read_csv(io.BytesIO(answer.content), dtype={"user_id": "str"}).set_index("user_id")
    assert scored["reasons"].notna().tolist() == [True] * 7 + [False] * (len(scored) - 7)
    assert list(scored.columns[:4]) == ["probability", "rank", "will_purchase", "contact"]
    report = json.loads(answer.headers["X-Score-Report"])
    assert report["rows_read"] == report["used"] + report["duplicates"] + report["refused"]
    assert (report["refused"], report["users"]) == (1, len(scored))
    assert report["examples"][0]["rule"]
    expected = shop.scores.set_index("user_id")["probability"]
    both = scored["probability"].reindex(expected.index)
    assert (both - expected).abs().max() <= 1e-6


def test_bentoml_answers_no_task_paths(api: httpx.Client) -> None:
    for step in ("submit", "status", "get", "cancel", "retry"):
        answer = api.request("PUT" if step == "cancel" else "POST", f"/score_batch/{step}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs#not-found")
    assert not any("submit" in path for path in api.get("/openapi.json").json()["paths"])


def test_a_file_of_features_comes_back_scored(api: httpx.Client, settings: Settings) -> None:
    columns = champion_of(settings).spec.feature_set.columns
    rows = pd.DataFrame(
        {"user_id": ["=1+1", "b", "b"], columns[0]: [1.0, 2.0, 2.0], columns[1]: [None, 3, 3]}
    )
    target = io.BytesIO()
    rows.to_parquet(target)
    answer = scored_file(api, "features.parquet", target.getvalue())
    assert answer.status_code == 200, answer.text
    report = json.loads(answer.headers["X-Score-Report"])
    assert (report["kind"], report["rows_read"], report["used"], report["duplicates"]) == (
        "features",
        3,
        2,
        1,
    )
    assert report["features_missing"][columns[1]] == 1
    assert sorted(line.split(b",")[0] for line in answer.content.splitlines()[1:]) == [b"'=1+1", b"b"]


def test_the_table_of_features_can_be_scored_however_it_is_packed(
    api: httpx.Client, shop: Shop, tmp_path: Path
) -> None:
    """It has features that training dropped, such as a flag that never changed."""
    out = tmp_path / "features.parquet"
    model = champion_of(shop.settings).spec.feature_set
    export_features(Lake(shop.settings.lake_url), model.task, [AS_OF], out)
    plain = pd.read_parquet(out).to_csv(index=False).encode()
    zst = pa.compress(plain, codec="zstd", asbytes=True)
    files = {
        "f.parquet": out.read_bytes(),
        "f.csv": plain,
        "f.csv.gz": gzip.compress(plain),
        "f.csv.zst": zst,
    }
    expected = shop.scores.set_index("user_id")["probability"]
    for name, content in files.items():
        answer = scored_file(api, name, content)
        assert answer.status_code == 200, answer.text
        scored = pd.read_csv(io.BytesIO(answer.content), dtype={"user_id": "str"}).set_index("user_id")
        assert (scored["probability"].reindex(expected.index) - expected).abs().max() <= 1e-6
        ignored = json.loads(answer.headers["X-Score-Report"])["features_ignored"]
        assert "shop_closed" in ignored
        assert not set(model.columns) & set(ignored)
        assert re.fullmatch(r"[^.]*(\.\d{3})?Z", scored["as_of"].iloc[0])
    cut = scored_file(api, "f.csv.gz", files["f.csv.gz"][:-8])
    assert (cut.status_code, "unpacked" in cut.text) == (409, True)


@pytest.mark.parametrize(
    ("name", "content", "form", "expected"),
    [
        ("a.csv", b"colour,size\nred,1\n", {}, "user_id"),
        ("a.csv", b"", {}, "empty"),
        (
            "a.csv",
            b"user_id,event_time,event_type\nu,soon,search\n",
            {},
            "line 2, column event_time, rule time",
        ),
        ("a.csv", b"user_id,event_time,event_type\n", {}, "holds no rows"),
        ("a.parquet", b"PAR1 and nothing else", {}, "file"),
        ("a.png", b"\x89PNG\r\n\x1a\n", {}, "text"),
        ("a.parquet", parquet(user_id=[["a", "b"]], hours_since_event=[1.0]), {}, "user_id"),
        ("a.parquet", parquet(user_id=["a"], hours_since_event=[[1.0]]), {}, "hours_since_event"),
        ("a.csv", b"user_id,hours_since_event\nu,2025-01-31\n", {}, "hours_since_event"),
    ],
)
def test_unusable_files_are_refused_with_a_reason(
    api: httpx.Client, name: str, content: bytes, form: dict[str, str], expected: str
) -> None:
    job = ended_job(api, send_file(api, name, content, **form))
    assert (job["state"], job["report"], job["result"]) == ("failed", None, None)
    assert expected in job["problem"]["detail"]
    assert job["problem"]["remedy"]
    answer = api.get(f"/jobs/{job['job_id']}/result")
    assert (answer.status_code, answer.json()["type"]) == (409, "/docs#no-result")
    assert answer.json()["detail"] == job["problem"]["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert "/upload" not in answer.text


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"source": "nowhere"}, "source"),
        ({"as_of": "soon"}, "as_of"),
        ({"reasons": "-1"}, "reasons"),
        ({"reasons": "9" * 30}, "reasons"),
        ({"sauce": "canonical"}, "sauce"),
    ],
)
def test_a_wrong_field_is_refused_before_the_file_is_stored(
    api: httpx.Client, form: dict[str, str], field: str
) -> None:
    before = api.get("/jobs").json()["jobs"]
    answer = api.post("/score_batch", files={"file": ("a.csv", b"user_id\n")}, data=form)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert api.get("/jobs").json()["jobs"] == before


def test_an_upload_beyond_the_limit_is_refused_before_it_is_read(api: httpx.Client) -> None:
    answer = api.post("/score_batch", files={"file": ("a.csv", b"0" * (21 * 1024 * 1024))})
    assert answer.status_code == 413


# PyMongo leaves the socket of a refused connection to the garbage collector when the client is closed.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_only_items_that_need_mongodb_fail_while_it_is_unreachable(shop: Shop) -> None:
    nowhere = shop.settings.model_copy(
        update={"mongodb_uri": SecretStr(f"mongodb://127.0.0.1:{free_port()}/?replicaSet=rs0")}
    )
    fast_path = FastPath(create_app(), Guard(KeyRing(), 1000), AccessLog(enabled=False))
    service = fast_path.service = PredictionService(
        nowhere, LoadedModel("tag", champion_of(shop.settings)), fast_path.metrics
    )
    event = {"event_time": "2025-01-28T23:00:00Z", "event_type": "view_item", "item_id": "i"}
    by_user = {"user_id": "a", "as_of": INSTANT}
    by_events, by_features = {**by_user, "events": [event]}, {**by_user, "features": {}}

    async def ask_all() -> list[httpx.Response]:
        transport = httpx.ASGITransport(fast_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            items = (by_user, by_events, by_features, [by_user, by_events], [by_user, by_user])
            responses = [await http.post("/predict", json=item) for item in items]
        await service.close()
        return responses

    user, events, features, mixed, users = asyncio.run(ask_all())
    for answer in (user, users):
        assert (answer.status_code, answer.json()["type"]) == (503, "/docs#dependency-away")
        assert int(answer.headers["retry-after"]) > 0
    assert (events.status_code, events.json()["history"]) == (200, "request")
    assert "MongoDB" in events.json()["warnings"][0]
    assert features.status_code == 200
    assert [("error" in entry) for entry in mixed.json()] == [True, False]


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_mongodb_that_hangs_holds_up_neither_predictions_nor_posts_for_long(
    shop: Shop, tmp_path: Path
) -> None:
    """One post after another would wait for it ten seconds each, and predictions behind them."""
    local = shop.settings.model_copy(update={"mongodb_uri": None, "home": tmp_path})
    uri = ensure_mongod(local)
    status = mongod_status(local)
    assert status is not None
    local = local.model_copy(update={"mongodb_uri": SecretStr(uri)})
    own_app = create_app()
    fast_path = FastPath(own_app, Guard(KeyRing(), 1000), AccessLog(enabled=False))
    service = fast_path.service = own_app.state.service = service_without_loading(local, shop, fast_path)
    event = {"event_time": "2025-01-28T23:00:00Z", "event_type": "view_item", "item_id": "i"}
    question = {"user_id": "a", "as_of": INSTANT, "events": [event]}

    async def meanwhile() -> tuple[list[httpx.Response], httpx.Response]:
        transport = httpx.ASGITransport(fast_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:

            async def post(user: str) -> httpx.Response:
                return await http.post("/events", json={"user_id": user, **event})

            assert (await post("first")).status_code == 202
            os.kill(int(status["pid"]), signal.SIGSTOP)
            try:
                async with asyncio.timeout(60):
                    posts = [asyncio.create_task(post(f"u{n}")) for n in range(MAX_PENDING + 40)]
                    predicted = await http.post("/predict", json=question)
                    refused = await asyncio.gather(*posts)
            finally:
                os.kill(int(status["pid"]), signal.SIGCONT)
            async with asyncio.timeout(60):
                while (await post("second")).status_code != 202:
                    await asyncio.sleep(0.2)
        await service.close()
        return refused, predicted

    try:
        refused, predicted = asyncio.run(meanwhile())
    finally:
        stop_mongod(local)
    assert (predicted.status_code, predicted.json()["history"]) == (200, "request")
    for answer in refused:
        assert (answer.status_code, answer.json()["type"]) == (503, "/docs#dependency-away")
        assert int(answer.headers["retry-after"]) > 0
    assert any("posts wait" in answer.text for answer in refused)


def test_the_client_calls_every_route(api: httpx.Client, shop: Shop, tmp_path: Path) -> None:
    first = shop.scores.iloc[0]
    with Client(str(api.base_url), api_key=KEY) as client:
        answer = client.predict(first["user_id"], as_of=AS_OF)
        assert answer.probability == pytest.approx(first["probability"], abs=1e-6)
        explained = client.predict(first["user_id"], as_of=AS_OF, reasons=True)
        assert replace(explained, reasons=()) == answer
        assert {reason.effect for reason in explained.reasons} <= {"raises", "lowers"}
        requests = [PredictRequest(first["user_id"], AS_OF), PredictRequest("nobody", AS_OF)] * 600
        many = client.predict_many(requests)
        assert [type(entry) for entry in many] == [UserPrediction, RejectedRequest] * 600
        assert many[0] == answer
        event = {"user_id": "by-client", "event_time": "2025-01-28T23:00:00Z", "event_type": "view_item"}
        assert client.post_events([event]).inserted == 1
        assert client.post_events([event]).duplicates == 1
        assert client.model()["version"] == client.reload()["version"] == answer.model_version
        scored = client.score_file(shop.log, as_of=AS_OF)
        assert scored.report["users"] == len(pd.read_csv(io.BytesIO(scored.csv)))
        with pytest.raises(DataError, match="no events"):
            client.predict("nobody", as_of=AS_OF)
        with pytest.raises(InputError, match="no feature"):
            client.predict("u", features={"no_such": 1.0})
        (tmp_path / "a.csv").write_text("colour\nred\n")
        with pytest.raises(InputError, match="user_id"):
            client.score_file(tmp_path / "a.csv")
    with Client(str(api.base_url), api_key="wrong") as stranger, pytest.raises(InputError, match="401"):
        stranger.model()
    with (
        Client(f"http://127.0.0.1:{free_port()}", retries=1) as nobody,
        pytest.raises(DependencyError, match="does not answer"),
    ):
        nobody.model()


def test_the_asynchronous_client_gets_what_the_synchronous_one_gets(api: httpx.Client, shop: Shop) -> None:
    first = shop.scores.iloc[0]
    requests = [PredictRequest(first["user_id"], AS_OF), PredictRequest("nobody", AS_OF)] * 1_100
    event = {"user_id": "by-async", "event_time": AS_OF.replace(tzinfo=None), "price": Decimal("1.50")}
    typed_event = event | {"event_type": "view_item", "item_id": "i1", "quantity": np.int64(1)}

    async def ask_all() -> None:
        async with AsyncClient(str(api.base_url), api_key=KEY) as client:
            answer, many, model = await asyncio.gather(
                client.predict(first["user_id"], as_of=AS_OF, reasons=True),
                client.predict_many(requests),
                client.model(),
            )
            with Client(str(api.base_url), api_key=KEY) as same:
                assert answer == same.predict(first["user_id"], as_of=AS_OF, reasons=True)
                assert many == same.predict_many(requests)
                assert model == same.model()
                scored = await client.score_file(shop.log, as_of=AS_OF)
                assert scored.csv == same.score_file(shop.log, as_of=AS_OF).csv
                assert [job.state for job in await client.jobs()][:2] == ["completed"] * 2
                with pytest.raises(DataError, match="404"):
                    await client.cancel_job("../model")
            assert (await client.post_events([typed_event])).inserted == 1
            assert (await client.post_events([typed_event])).duplicates == 1
            assert (await client.reload())["version"] == model["version"]
            with pytest.raises(DataError, match="no events"):
                await client.predict("nobody", as_of=AS_OF)
        async with AsyncClient(str(api.base_url), api_key="wrong") as stranger:
            with pytest.raises(InputError, match="401"):
                await stranger.model()
        async with AsyncClient(f"http://127.0.0.1:{free_port()}", retries=1) as nobody:
            with pytest.raises(DependencyError, match="does not answer"):
                await nobody.model()

    asyncio.run(ask_all())


def test_bentomls_own_client_sends_its_token_as_the_key(api: httpx.Client, shop: Shop) -> None:
    first = shop.scores.iloc[0]
    question = {"user_id": first["user_id"], "as_of": INSTANT}
    probability = pytest.approx(first["probability"], abs=1e-6)
    event = {"user_id": "by-bentoml", "event_time": "2025-01-28T23:00:00Z", "event_type": "view_item"}
    with bentoml_client(api, KEY) as client:
        assert client.predict(**question)["probability"] == probability
        answers = client.predict_many([question, {"user_id": "nobody"}])
        assert answers[0]["probability"] == probability
        assert answers[1]["error"]["status"] == 404
        assert client.post_events([event])["received"] == 1
        assert client.reload()["version"] == client.request("GET", "/model").json()["version"]
        with pytest.raises(BentoMLException, match="no feature"):
            client.predict(user_id="u", features={"no_such": 1.0})
    with bentoml_client(api, KEY[:-1]) as stranger, pytest.raises(BentoMLException, match="not valid"):
        stranger.predict(**question)


@contextmanager
def bentoml_client(api: httpx.Client, key: str) -> Iterator[Any]:
    with bentoml.SyncHTTPClient(str(api.base_url), token=key) as client:
        yield client
    client._temp_dir.cleanup()  # left to the garbage collector, which warns


def test_the_client_does_not_wait_for_ever_for_a_file(
    api: httpx.Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retail_core.client.job_waiting.FILE_SECONDS", 0)
    with (
        Client(str(api.base_url), api_key=KEY) as client,
        pytest.raises(DependencyError, match="was not scored"),
    ):
        client.score_file(shop.log, as_of=AS_OF)


def test_a_key_above_its_rate_limit_is_refused_and_the_client_waits(shop: Shop) -> None:
    fast_path = FastPath(create_app(), Guard(KeyRing(), 1000, rate=4), AccessLog(enabled=False))
    fast_path.service = PredictionService(
        shop.settings, LoadedModel("tag", champion_of(shop.settings)), fast_path.metrics
    )
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(fast_path, port=port, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_answering(url)
        body = {"user_id": "u", "features": {}}
        with httpx.Client(base_url=url, trust_env=False) as http:
            responses = [http.post("/predict", json=body) for _ in range(12)]
        refused = [response for response in responses if response.status_code == 429]
        assert 1 <= len(refused) <= 8
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        with Client(url) as client:
            assert [client.predict("u", features={}).user_id for _ in range(6)] == ["u"] * 6

        async def ask_async() -> list[UserPrediction]:
            async with AsyncClient(url) as client:
                return [await client.predict("u", features={}) for _ in range(6)]

        assert [answer.user_id for answer in asyncio.run(ask_async())] == ["u"] * 6
    finally:
        server.should_exit = True
        thread.join()
    assert (
        'retail_problems_total{kind="too-fast"}' in exposition(fast_path.metrics.families(), "")[0].decode()
    )


def wait_until_answering(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(f"{url}/docs/start.js", trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the server did not start")


def test_metrics_count_requests_predictions_and_nulls(api: httpx.Client) -> None:
    ask(api, {"user_id": "u", "features": {}})
    read = metric_samples(api)
    version = api.get("/model").json()["version"]
    by_version = {"version": version}
    predicted = [labels for name, labels, _ in read if name == "retail_predictions_total"]
    requests = [labels for name, labels, _ in read if name == "retail_request_seconds_bucket"]
    assert {**by_version, "policy": "daily"} in predicted
    assert any(labels["route"] == "/predict" and labels["status"] == "200" for labels in requests)
    assert ("retail_probability_count", by_version) in [(name, labels) for name, labels, _ in read]
    nulls = [value for name, _, value in read if name == "retail_feature_nulls_total"]
    assert sum(value > 0 for value in nulls) == len(nulls) > 0
    assert ("retail_reload_refused", {}, 0.0) in read
    assert ("retail_prediction_log_dropped", {}, 0.0) in read


def test_no_request_path_becomes_a_label(api: httpx.Client) -> None:
    before = api.get("/metrics").text
    folders = ("", "score_batch/", "docs/", "model/", "static_content/", "livez/")
    for number in range(30):
        for folder in folders:
            api.get(f"/{folder}no-such-path-{number}", params={"q": f"no-such-path-{number}"})
    after = api.get("/metrics").text
    assert 'retail_request_seconds_count{route="other",status="404"}' in after
    assert "no-such-path" not in after
    assert len(after.splitlines()) - len(before.splitlines()) < 100


def test_metrics_are_also_read_as_openmetrics(api: httpx.Client) -> None:
    ask(api, {"user_id": "u", "features": {}})
    assert api.get("/livez").status_code == 200
    plain = api.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    answer = api.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics_families(answer.text)}
    assert set(families) >= {"retail_request_seconds", "retail_predictions", "bentoml_service_request"}
    names = {family.name for family in text_string_to_metric_families(plain.text)}
    assert names == set(families)


def test_a_result_with_an_erased_user_is_deleted(api: httpx.Client, shop: Shop) -> None:
    def uploaded(user: str) -> str:
        log = f"user_id,event_time,event_type\n{user},{INSTANT},search\n".encode()
        path = send_file(api, f"{user}.csv", log)
        assert ended_job(api, path)["state"] == "completed"
        return path

    erased, remaining = uploaded("gone-1"), uploaded("kept-1")
    with open_store(shop.settings) as store:
        assert erasure.count_stored(store, "gone-1")["upload_results"] == 1
        assert erasure.erase(store, "gone-1")["upload_results"] == 1
        assert erasure.count_stored(store, "gone-1")["upload_results"] == 0
    assert "gone-1" not in api.get(erased).text
    answer = api.get(f"{erased}/result")
    assert (answer.status_code, answer.json()["type"]) == (409, "/docs#no-result")
    assert "erased" in answer.json()["detail"]
    assert b"kept-1" in api.get(f"{remaining}/result").content
    uploaded("after-1")


def test_answers_are_logged_and_the_user_can_be_erased_from_the_log(api: httpx.Client, shop: Shop) -> None:
    ask(api, {"user_id": "logged", "as_of": INSTANT, "features": {}})
    with open_store(shop.settings) as store:
        for _ in range(100):
            logged = list(store.prediction_log.find({"user_id": "logged"}))
            if logged:
                break
            time.sleep(0.1)
        assert [entry["history"] for entry in logged] == ["features"]
        assert erasure.erase(store, "logged")["prediction_log"] == 1
        assert store.prediction_log.count_documents({"user_id": "logged"}) == 0
