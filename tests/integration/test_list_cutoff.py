"""One default cut-off for every list, from a log whose last day ends at 23:28, and its shop context.

The command, `POST /score_batch` and the page state the same window and give the same probabilities; that the
flow does as the command is tested in `test_flows`.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from bentos.context_refresh import refresh_shop_context
from retail_core.privacy.erasure import erase
from retail_core.scoring.shop_context import stored_context
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.stack.services import variables
from retail_core.store.mongo.connection import open_store
from retail_core.times import parse_instant
from retail_core.training.pipeline import train
from retail_core.workspace import open_workspace
from tests.champion import champion_of
from tests.command_line import retail
from tests.serving import OPTIONS, environment, running_service, scored_file

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
NEWEST, NEXT_DAY = datetime(2025, 1, 28, 23, 28, tzinfo=UTC), datetime(2025, 1, 29, tzinfo=UTC)
STATEMENT = "buys between 29 Jan 00:00 and 30 Jan 00:00 UTC; data until 28 Jan 23:28"


@dataclass(frozen=True)
class Shop:
    """A trained shop, its log, and what `retail score` printed and wrote without `--as-of`."""

    settings: Settings
    log: bytes
    report: dict[str, object]
    scores: pd.Series


def run(settings: Settings, *arguments: str) -> dict[str, object]:
    """The JSON object of a command."""
    set_variables = {name: value for name, value in variables(settings).items() if value is not None}
    done = retail(*arguments, "--json", home=settings.home_dir, **set_variables)
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def probabilities(csv: bytes | Path) -> pd.Series:
    source = io.BytesIO(csv) if isinstance(csv, bytes) else csv
    return pd.read_csv(source, dtype={"user_id": "str"}).set_index("user_id")["probability"].sort_index()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, mongod_uri: str) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    settings = Settings(
        home=folder / "home",
        mongodb_uri=mongod_uri,  # type: ignore[arg-type]
        mongodb_database=f"retail_{uuid.uuid4().hex[:12]}",
        search_rows=2_000,
        fit_rows=4_000,
        context_refresh_seconds=1.0,
        standby=False,
    )
    log, out = folder / "log.csv", folder / "scores.csv"
    simulate(SimulationConfig(users=1_000, days=28, seed=5, start=date(2025, 1, 1)), log)
    events = pd.read_csv(log, dtype="str")
    times = pd.to_datetime(events["event_time"], format="ISO8601")
    before = events[times < NEWEST]
    last = before.tail(1).assign(event_time="2025-01-28T23:28:00Z", event_id="last", event_type="view_item")
    pd.concat([before, last]).to_csv(log, index=False)
    run(settings, "ingest", str(log))
    with open_workspace(settings) as workspace:
        assert workspace.newest_event == NEWEST
        assert stored_context(workspace.store, workspace.task, NEXT_DAY), "stored by `retail ingest`"
        training = train(workspace, as_of=workspace.resolve_as_of(None, midnight=True), options=OPTIONS)
    assert training.promoted
    assert parse_instant(training.known_until) <= NEWEST, "the midnight ahead is not known"
    assert parse_instant(training.eligible["last_cutoff"]) == datetime(2025, 1, 27, tzinfo=UTC)
    assert training.statement.startswith("learned who bought between ")
    report = run(settings, "score", "--out", str(out))
    return Shop(settings, log.read_bytes(), report, probabilities(out))


@pytest.fixture(scope="module")
def api(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("logs") / "api.log"
    with running_service(shop.settings, log, is_measured=True) as client:
        yield client


def upload(api: httpx.Client, content: bytes) -> tuple[dict[str, object], pd.Series]:
    """Report and probabilities of an upload without `as_of`."""
    answer = scored_file(api, "log.csv", content)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.headers["X-Score-Report"]), probabilities(answer.content)


def forget_context(settings: Settings) -> None:
    with open_store(settings) as store:
        store.context.delete_many({})


def last_days(log: bytes, days: int) -> bytes:
    events = pd.read_csv(io.BytesIO(log), dtype="str")
    times = pd.to_datetime(events["event_time"], format="ISO8601")
    return events[times >= NEXT_DAY - timedelta(days=days)].to_csv(index=False).encode()


def test_the_command_scores_the_next_day(shop: Shop) -> None:
    assert (shop.report["as_of"], shop.report["statement"]) == ("2025-01-29T00:00:00Z", STATEMENT)


def test_an_uploaded_log_gets_the_probabilities_of_the_command(api: httpx.Client, shop: Shop) -> None:
    """From stored context, and from the file's own where none is stored."""
    run(shop.settings, "score", "--out", str(shop.settings.home / "again.csv"))
    for origin in ("stored", "file"):
        report, scores = upload(api, shop.log)
        assert (report["as_of"], report["statement"]) == ("2025-01-29T00:00:00Z", STATEMENT)
        assert (report["context"], report["warnings"]) == (origin, [])
        pd.testing.assert_series_equal(scores, shop.scores, rtol=0, atol=1e-9)
        forget_context(shop.settings)


def test_a_log_without_enough_days_says_so_first(api: httpx.Client, shop: Shop) -> None:
    """Its probabilities come from the usual context, so that they are right on average."""
    forget_context(shop.settings)
    report, scores = upload(api, last_days(shop.log, 9))
    assert next(iter(report)) == "warnings"
    (warning,) = report["warnings"]  # type: ignore[misc]
    assert "spans 9 days" in str(warning)
    assert (report["context"], report["statement"]) == ("usual", STATEMENT)
    assert set(scores.index) == set(shop.scores.index)
    assert 0.75 < scores.sum() / shop.scores.sum() < 1.33


def test_a_part_of_the_log_is_not_taken_for_the_shop(api: httpx.Client, shop: Shop) -> None:
    forget_context(shop.settings)
    events = pd.read_csv(io.BytesIO(shop.log), dtype="str")
    few_users = events[events["user_id"].isin(sorted(events["user_id"].unique())[::8])]
    report, _ = upload(api, few_users.to_csv(index=False).encode())
    assert report["context"] == "usual"
    assert "not the shop's whole log" in str(report["warnings"])


def page_after_upload(shop: Shop, api: httpx.Client, log: bytes, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    served = shop.settings.model_copy(update={"api_port": api.base_url.port})
    for name, value in environment(served).items():
        monkeypatch.setenv(name, value)
    at = AppTest.from_file(str(ROOT / "app" / "views" / "score.py"), default_timeout=60).run()
    at.file_uploader[0].set_value(("log.csv", log, "text/csv")).run()
    at.button[0].click().run()
    assert not at.exception
    return at


def test_the_page_scores_the_next_day_and_states_it(
    shop: Shop, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_context(shop.settings)
    at = page_after_upload(shop, api, shop.log, monkeypatch)
    assert not at.warning
    assert any(STATEMENT in text.value for text in at.markdown)
    scores = probabilities(at.session_state["result"].csv)
    pd.testing.assert_series_equal(scores, shop.scores, rtol=0, atol=1e-9)


def test_the_page_warns_before_it_shows_the_result(
    shop: Shop, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_context(shop.settings)
    at = page_after_upload(shop, api, last_days(shop.log, 9), monkeypatch)
    kinds = [element.type for element in at.main]
    assert "spans 9 days" in at.warning[0].value
    assert kinds.index("warning") < kinds.index("subheader")


def test_the_audience_page_and_exported_features_use_the_same_day(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    report = run(shop.settings, "features", "--out", str(out))
    assert report["statement"] == STATEMENT
    assert set(pd.read_parquet(out)["as_of"]) == {pd.Timestamp(NEXT_DAY)}
    for name, value in environment(shop.settings).items():
        monkeypatch.setenv(name, value)
    at = AppTest.from_file(str(ROOT / "app" / "views" / "audience.py"), default_timeout=120).run()
    at.button[0].click().run()
    assert not at.exception
    assert any(STATEMENT in text.value for text in at.markdown)
    assert at.session_state["scores"].as_of == NEXT_DAY


def test_posted_events_change_the_stored_context(shop: Shop, api: httpx.Client) -> None:
    """The service refreshes it in its batch process."""
    task = champion_of(shop.settings).spec.feature_set.task
    assert refresh_shop_context(shop.settings) == 28
    with open_store(shop.settings) as store:
        before = (stored_context(store, task, NEXT_DAY) or {})["buyers_yesterday"]
    event = {"user_id": "new", "event_time": "2025-01-28T10:00:00Z", "event_type": "purchase", "price": 10}
    assert api.post("/events", json=[event]).json()["inserted"] == 1
    with open_store(shop.settings) as store:
        for _ in range(120):
            after = (stored_context(store, task, NEXT_DAY) or {})["buyers_yesterday"]
            if after != before:
                break
            time.sleep(0.5)
        erase(store, "new")  # the other tests of the module expect the shop as it was
    refresh_shop_context(shop.settings)
    assert after == (before or 0) + 1
