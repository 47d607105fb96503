"""A user who wants to be forgotten is, everywhere, whenever the erasure was interrupted."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from _bentoml_impl.tasks import ResultStatus, Sqlite3Store
from starlette.requests import Request
from starlette.responses import Response

from retail_core import sources
from retail_core.csv_export import escape_formula
from retail_core.errors import DataError, DependencyError, InputError
from retail_core.ingest import ingest
from retail_core.privacy import erasure
from retail_core.scoring.audience import refuse_erased
from retail_core.scoring.mirror import mirror_predictions
from retail_core.scoring.scores import ranked
from retail_core.stack.services import variables
from retail_core.store.lake.table import Lake, rebuild, sync
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.predictions import read_predictions, replace_predictions

pytestmark = pytest.mark.integration
AS_OF = datetime(2025, 1, 20, tzinfo=UTC)
GONE, KEPT = "7", "u7"


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Store:
    """Two users with events on several days, predictions, a mirror, a log, attributes and refused rows."""
    lines = ["user_id,event_time,event_type,quantity"]
    lines += [
        f"{user},2025-01-{day:02d}T{hour:02d}:00:00Z,view_item,7"
        for user in (GONE, KEPT)
        for day in (3, 9, 17)
        for hour in range(5)
    ]
    lines += [f"{user},not a time,view_item,7" for user in (GONE, KEPT)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(lines) + "\n")
    ingest(store, [log], sources.get("canonical"), at=AS_OF)
    sync(store)
    scored = ranked(
        [
            pd.DataFrame(
                {
                    "user_id": [GONE, KEPT],
                    "as_of": pd.Series([pd.Timestamp(AS_OF)] * 2).astype("datetime64[ms, UTC]"),
                    "model_version": "1",
                    "policy": "daily",
                    "probability": [0.2, 0.1],
                    "raw_score": [0.2, 0.1],
                    "will_purchase": [True, False],
                    "contact": [True, False],
                }
            ).astype({"user_id": "str", "model_version": "str", "policy": "str"})
        ]
    )
    replace_predictions(store, scored, as_of=AS_OF, model_version="1")
    mirror_predictions(store.settings.lake_url, scored, as_of=AS_OF, version="1")
    for name in ("users", "prediction_log", "audiences"):
        # MongoDB itself forgets an old entry of the log.
        store.database[name].insert_many(
            [{"user_id": user, "at": datetime.now(UTC)} for user in (GONE, KEPT)]
        )
    return store


def everybody(store: Store) -> set[str]:
    """Users named in any document of MongoDB or any file of the lake, superseded ones included."""
    found: set[str] = set()
    for name in store.database.list_collection_names():
        for document in store.database[name].find():
            found |= {str(document.get("user_id", "")), str(document.get("raw", "")).split(",", 1)[0]}
    for path in Path(store.settings.lake_url).rglob("*.parquet"):
        found |= set(pq.ParquetFile(path).read(["user_id"])["user_id"].to_pylist())
    return found - {""}


def places(count: int) -> dict[str, int]:
    return {
        "upload_results": 0,
        "users": count,
        "predictions": count,
        "outcomes": 0,
        "audiences": count,
        "prediction_log": count,
        "events": 15 * count,
        "quarantine": count,
        "lake_events": 15 * count,
        "lake_attributes": 0,
        "lake_predictions": count,
    }


def test_what_is_held_is_shown_and_exported(shop: Store, tmp_path: Path) -> None:
    assert erasure.held(shop, GONE) == places(1)
    assert erasure.held(shop, "nobody") == places(0)
    out = tmp_path / "held.jsonl"
    assert erasure.export(shop, GONE, out) == 20
    assert {json.loads(line).get("user_id", GONE) for line in out.read_text().splitlines()} == {GONE}
    with pytest.raises(InputError, match="not empty"):
        erasure.held(shop, "")


def test_erasure_leaves_no_trace_and_touches_nobody_else(shop: Store) -> None:
    assert everybody(shop) == {GONE, KEPT}
    assert erasure.erase(shop, GONE) == places(1)
    assert erasure.held(shop, GONE) == places(0)
    assert erasure.held(shop, KEPT) == places(1)
    assert everybody(shop) == {KEPT}
    assert read_predictions(shop, as_of=AS_OF)["user_id"].tolist() == [KEPT]
    assert [one["rows"] for one in shop.prediction_windows.find()] == [1]
    state = Lake(shop.settings.lake_url).state()
    assert state.rows == 15
    assert rebuild(shop).data_hash == state.data_hash


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.06, 0.1])
def test_killed_at_any_moment_it_ends_the_same_when_run_again(shop: Store, seconds: float) -> None:
    code = (
        "from retail_core.settings import load_settings\n"
        "from retail_core.store.mongo.connection import open_store\n"
        "from retail_core.privacy.erasure import erase\n"
        "with open_store(load_settings()) as store:\n"
        f"    print('ready', flush=True); erase(store, {GONE!r})"
    )
    given = {name: value for name, value in variables(shop.settings).items() if value is not None}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=os.environ | given, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
    erasure.erase(shop, GONE)
    assert erasure.held(shop, GONE) == places(0)
    assert erasure.held(shop, KEPT) == places(1)
    assert [one["rows"] for one in shop.prediction_windows.find()] == [1]
    assert everybody(shop) == {KEPT}
    assert sync(shop).rows == 15


@pytest.fixture
def results(store: Store) -> Path:
    """The file in which BentoML keeps results."""
    file = store.settings.upload_results
    file.parent.mkdir(parents=True, exist_ok=True)
    Sqlite3Store.init_db(str(file))
    return file


def _scored(*users: str) -> Response:
    rows = [f'{escape_formula(user)},0.25,"7, {KEPT}"\n' for user in users]
    return Response("user_id,probability,reasons\n" + "".join(rows))


async def _uploads(file: Path, answers: dict[str, Response | None]) -> dict[str, str]:
    """One task an answer, stored as the service does; one without an answer is still running."""
    tasks = {}
    async with Sqlite3Store(str(file)) as kept:
        for name, answer in answers.items():
            request = Request({"type": "http", "method": "POST", "path": "/", "headers": []})
            request._body = b""
            tasks[name] = await kept.new_entry("score_batch", request)
            if answer is not None:
                await kept.set_result(tasks[name], answer, ResultStatus("completed"))
    return tasks


async def _left(file: Path, tasks: dict[str, str], *, finish: str) -> dict[str, int]:
    """Status codes of the results that can still be had, once the running one is done as well."""
    async with Sqlite3Store(str(file)) as kept:
        await kept.set_result(tasks[finish], _scored("u9"), ResultStatus("completed"))
        rows = {name: await kept.get_or_none(task) for name, task in tasks.items()}
    return {name: row.result.status_code for name, row in rows.items() if row is not None}


def test_results_of_uploads_that_hold_the_user_go_and_no_others(
    store: Store, results: Path, tmp_path: Path
) -> None:
    answers = {
        "his": _scored("u1", "=7", GONE),
        "another's": _scored("u1", KEPT, "=7"),
        "error": Response("user 7 is there twice", 400),
        "another error": Response("no column u7", 400),
        "running": None,
    }
    tasks = asyncio.run(_uploads(results, answers))
    assert erasure.held(store, GONE)["upload_results"] == 2
    assert erasure.held(store, "=7")["upload_results"] == 2
    out = tmp_path / "held.jsonl"
    assert erasure.export(store, GONE, out) == 2
    rows = [row for line in out.read_text().splitlines() for row in json.loads(line)["rows"]]
    assert rows == [{"user_id": GONE, "probability": "0.25", "reasons": f"7, {KEPT}"}]
    gone = base64.b64encode(answers["his"].body)
    with closing(sqlite3.connect(results)) as reader:
        reader.execute("SELECT count(*) FROM result").fetchall()
        assert erasure.erase(store, GONE)["upload_results"] == 2
        files = list(results.parent.glob("task_result.db*"))
        assert len(files) == 3
        assert not any(gone in file.read_bytes() for file in files)
    assert erasure.held(store, GONE)["upload_results"] == 0
    left = asyncio.run(_left(results, tasks, finish="running"))
    assert left == {"another's": 200, "another error": 400, "running": 200}


def test_a_file_of_results_that_cannot_be_read_is_one_clear_line(shop: Store, tmp_path: Path) -> None:
    elsewhere = replace(shop, settings=shop.settings.model_copy(update={"bentoml_home": str(tmp_path)}))
    file = tmp_path / "task_result.db"
    file.write_bytes(b"no database" * 1_000)
    with pytest.raises(DependencyError, match="results of uploads"):
        erasure.erase(elsewhere, GONE)
    file.unlink()
    assert erasure.erase(elsewhere, GONE) == places(1)
    assert not file.exists()


MAPPED = {
    "shop": "name: my_shop\ncolumns: {user_id: kunde, event_time: zeit, event_type: was}\ndelimiter: ';'\n",
    "preset": "extends: rees46\ncolumns: {user_id: kunde}\ntime: ['%d.%m.%Y']\ndelimiter: ';'\n",
}
HEADERS = {
    "shop": "was;kunde;zeit;preis\n",
    "preset": "event_type;kunde;event_time;price;product_id;user_session\n",
}


def _refused_by_mapping(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "map.yaml").write_text(MAPPED[name])
    rows = ["Kauf; K-2 ;soon;1,5", 'Kauf;"K ""2""";soon;K-2', "Kauf;K-3;soon;K-2"]
    file = tmp_path / "mapped.csv"
    tail = ";p;s\n" if name == "preset" else "\n"
    file.write_text(HEADERS[name] + "".join(row + tail for row in rows))
    report = ingest(store, [file], sources.from_mapping(tmp_path / "map.yaml"), at=AS_OF)
    assert report.quarantined == 3


@pytest.mark.parametrize("name", MAPPED)
def test_refused_rows_of_any_mapping_are_found_by_its_user_column(
    store: Store, tmp_path: Path, name: str
) -> None:
    _refused_by_mapping(store, tmp_path, name)
    assert [erasure.held(store, user)["quarantine"] for user in ("K-2", 'K "2"', "K-3", "soon")] == [
        1,
        1,
        1,
        0,
    ]
    assert erasure.erase(store, "K-2")["quarantine"] == 1
    left = [one["raw"].split(";")[1] for one in store.quarantine.find(sort=[("line", 1)])]
    assert left == ['"K ""2"""', "K-3"]


def test_refused_rows_of_windows_that_do_not_say_how_they_are_written(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        f"user_id,event_time,event_type,quantity\n{GONE},soon,search,1\n{KEPT},soon,search,{GONE}\n"
    )
    ingest(store, [log], sources.get("canonical"), at=AS_OF)
    store.ledger.update_many({"kind": "window"}, {"$unset": {"delimiter": "", "user_columns": ""}})
    assert erasure.held(store, GONE)["quarantine"] == erasure.held(store, KEPT)["quarantine"] == 1
    (tmp_path / "long.csv").write_text(f"user_id,event_time,event_type\n{GONE},{'9' * 140_000},search\n")
    ingest(store, [tmp_path / "long.csv"], sources.get("canonical"), at=AS_OF)
    assert erasure.held(store, GONE)["quarantine"] == 2


def test_scores_of_before_the_erasure_no_longer_make_an_audience(shop: Store) -> None:
    refuse_erased(shop, [GONE, KEPT])
    erasure.erase(shop, GONE)
    with pytest.raises(DataError, match="1 users of this list have been erased"):
        refuse_erased(shop, [GONE, KEPT])
    refuse_erased(shop, [KEPT])
