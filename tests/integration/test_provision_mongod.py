"""A new `mongod` with a key file becomes a replica set with two users, also after a killed attempt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from retail_core.settings import Settings
from retail_core.stack import provision_mongod
from retail_core.stack.provision_mongod import Accounts, provision
from retail_core.store.mongo.connection import open_store
from retail_core.store.mongod.embedded import end_server
from retail_core.store.mongod.process import RunningServer, ServerFiles, launch, locate_binary
from retail_core.store.mongod.replica_set import initiate_replica_set

pytestmark = pytest.mark.integration

ACCOUNTS = Accounts("root-secret", "secret", "shop")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A `mongod` with a key file and nothing else."""
    files = ServerFiles(tmp_path / "mongo")
    files.prepare()
    yield launch(files, locate_binary(files))
    end_server(files)


def uri_of(server: RunningServer, password: str) -> str:
    return f"mongodb://retail:{password}@{server.address}/?replicaSet=rs0&authSource=shop"


@pytest.mark.parametrize("was_killed", [False, True])
def test_the_user_can_use_one_database(server: RunningServer, tmp_path: Path, was_killed: bool) -> None:
    if was_killed:
        with MongoClient[dict[str, Any]](server.address, directConnection=True) as client:
            initiate_replica_set(client, server.address)
    assert provision(server.port, server.address, ACCOUNTS)
    settings = Settings(home=tmp_path, mongodb_uri=uri_of(server, "secret"), mongodb_database="shop")
    with open_store(settings) as store:
        store.events.insert_one({"_id": "a"})
        with pytest.raises(OperationFailure, match="not authorized"):
            store.client["other"].events.insert_one({"_id": "a"})
    with (
        MongoClient[dict[str, Any]](server.address, directConnection=True) as stranger,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        stranger.shop.events.find_one()


def test_a_second_run_sets_a_new_password(server: RunningServer) -> None:
    provision(server.port, server.address, ACCOUNTS)
    changed = Accounts(ACCOUNTS.administrator_password, "another", ACCOUNTS.database)
    assert not provision(server.port, server.address, changed)
    with MongoClient[dict[str, Any]](uri_of(server, "another")) as client:
        assert client.shop.events.find_one() is None
    with MongoClient[dict[str, Any]](uri_of(server, "secret")) as client, pytest.raises(OperationFailure):
        client.shop.events.find_one()


def test_failures_are_one_line(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["provision_mongod", server.address])
    monkeypatch.delenv("MONGO_PASSWORD", raising=False)
    monkeypatch.setenv("MONGO_ADMIN_PASSWORD", "wrong")
    assert provision_mongod.main(server.port) == 1
    assert capsys.readouterr().err == "MONGO_PASSWORD is not set.\n"
    provision(server.port, server.address, ACCOUNTS)
    monkeypatch.setenv("MONGO_PASSWORD", "secret")
    assert provision_mongod.main(server.port) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "MONGO_ADMIN_PASSWORD" in lines[0]
