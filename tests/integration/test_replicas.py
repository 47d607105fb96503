"""Two API processes over one MongoDB, started before the first training, as containers run them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from retail_core.registry.promotion import Author, promote
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from tests.home_copies import copy_registry, drop_database, new_database_name
from tests.serving import AS_OF, KEY, ended_job, register_shop, register_variant, running_service, send_file

pytestmark = [pytest.mark.integration, pytest.mark.long]

FIRST, SECOND = 0, 1
RATE = 40.0
SECONDS = 240
INSTANT = "2025-01-29T00:00:00Z"


@dataclass(frozen=True)
class Replicas:
    """Two services of one home, each with a model store of its own."""

    settings: Settings
    clients: tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def replicas(
    mongod_uri: str, empty_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    settings = Settings(
        home=folder / "home",
        mongodb_uri=mongod_uri,
        mongodb_database=new_database_name(),
        api_keys=KEY,
        rate_limit=RATE,
        poll_seconds=0.2,
        standby=False,
        wait_for_model=True,
    )
    copy_registry(empty_registry, settings.home_dir)
    first, second = (
        running_service(
            settings.model_copy(update={"bentoml_home": str(folder / name)}),
            folder / f"{name}.log",
            health="/livez",
        )
        for name in ("first", "second")
    )
    with first as first_client, second as second_client:
        yield Replicas(settings, (first_client, second_client))
    drop_database(settings)


def within(seconds: float, is_true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def event(user_id: str, minute: int) -> dict[str, object]:
    at = AS_OF - timedelta(minutes=minute)
    return {
        "user_id": user_id,
        "event_time": at.isoformat(),
        "event_type": "add_to_cart",
        "item_id": "i",
        "price": "5",
    }


def test_replicas(replicas: Replicas) -> None:
    """One after another, since every step needs the state of the one before."""
    alive_without_a_model(replicas)
    the_first_model_reaches_both(replicas)
    a_promotion_reaches_both(replicas)
    an_event_counts_at_the_other_replica_at_once(replicas)
    an_upload_is_scored_by_either_replica(replicas)
    each_replica_limits_its_own_rate(replicas)


def alive_without_a_model(replicas: Replicas) -> None:
    for client in replicas.clients:
        assert client.get("/livez").status_code == 200
        for method, path in (("GET", "/readyz"), ("GET", "/model"), ("POST", "/predict")):
            answer = client.request(method, path, json={"user_id": "u"} if method == "POST" else None)
            assert answer.status_code == 503, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/docs#no-model"
            assert answer.json()["remedy"] == "run `retail train`."
            assert "Retry-After" in answer.headers
        upload = client.post("/score_batch", files={"file": ("a.csv", b"x")})
        assert (upload.status_code, upload.json()["type"]) == (503, "/docs#no-model")
        assert "retail_model_loaded 0.0" in client.get("/metrics").text
    posted = replicas.clients[FIRST].post("/events", json=event("early", 90))
    assert (posted.status_code, posted.json()["inserted"]) == (202, 1)
    repeated = replicas.clients[SECOND].post("/events", json=event("early", 90))
    assert (repeated.status_code, repeated.json()["duplicates"]) == (202, 1)


def the_first_model_reaches_both(replicas: Replicas) -> None:
    register_shop(replicas.settings)
    for client in replicas.clients:
        within(SECONDS, lambda c=client: c.get("/readyz").status_code == 200, "the first model")
        answer = client.post("/predict", json={"user_id": "early", "as_of": INSTANT})
        assert (answer.status_code, answer.json()["history"]) == (200, "stored")
        assert "retail_model_loaded 1.0" in client.get("/metrics").text


def a_promotion_reaches_both(replicas: Replicas) -> None:
    version = register_variant(replicas.settings, factor=2.0)
    with open_store(replicas.settings) as store:
        promote(store, version, Author("test"))
    for client in replicas.clients:
        within(SECONDS, lambda c=client: c.get("/model").json()["version"] == version, "the promotion")


def an_event_counts_at_the_other_replica_at_once(replicas: Replicas) -> None:
    for number in range(10):
        writer, reader = replicas.clients[number % 2], replicas.clients[1 - number % 2]
        user = {"user_id": f"u{number}", "as_of": INSTANT}
        assert reader.post("/predict", json=user).status_code == 404
        assert writer.post("/events", json=event(f"u{number}", 5)).status_code == 202
        answers = [client.post("/predict", json=user) for client in (reader, writer)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["probability"] == answers[1].json()["probability"]


def an_upload_is_scored_by_either_replica(replicas: Replicas) -> None:
    receiver, other = replicas.clients
    rows = b"user_id,event_time,event_type\nu1,2025-01-28T23:00:00Z,view_item\n"
    path = send_file(receiver, "a.csv", rows)
    assert ended_job(other, path)["state"] == "completed"
    assert b"u1" in other.get(f"{path}/result").content


def each_replica_limits_its_own_rate(replicas: Replicas) -> None:
    """So the limit of a key is that of one replica times their number."""
    limited, other = replicas.clients
    statuses = [limited.get("/model").status_code for _ in range(round(RATE * 12))]
    assert 429 in statuses
    assert other.get("/model").status_code == 200
