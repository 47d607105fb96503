"""An own MongoDB with users and TLS: one right on one database suffices, and each refusal is one line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError, OperationFailure

from retail_core.settings import Settings
from retail_core.settings_files import variable_name
from retail_core.store.mongo.connection import open_store
from retail_core.store.mongo.server_errors import known_mongodb_error, mongodb_error
from retail_core.store.mongod.process import ServerFiles, locate_binary
from retail_core.subprocesses import free_port
from tests.command_line import retail
from tests.secured_mongod import CLIENT_SUBJECT, SecuredServer, move_shop, secured_mongod
from tests.serving import AS_OF, Shop, running_service

pytestmark = [pytest.mark.integration, pytest.mark.long]

DATABASE = "secured_shop"
PASSWORD = "p@ss:w/%rd?#&=+ ü'\""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServer]:
    with secured_mongod(tmp_path_factory.mktemp("secured mongod")) as running:
        running.create_user("shop", PASSWORD, DATABASE)
        running.create_user("reader", PASSWORD, DATABASE, role="read")
        running.create_user("other", PASSWORD, "other_shop")
        with running.administrator() as client:
            roles = [{"role": "readWrite", "db": "x509_shop"}]
            client["$external"].command("createUser", CLIENT_SUBJECT, roles=roles)
        yield running


@pytest.fixture(scope="module")
def secured(shop: Shop, server: SecuredServer) -> Settings:
    """The trained shop, whose database is on the secured server."""
    return move_shop(shop.settings, server, server.uri("shop", PASSWORD), DATABASE)


def variables(settings: Settings) -> dict[str, str]:
    assert settings.mongodb_uri is not None
    return {
        "RETAIL_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
        "RETAIL_SEARCH_ROWS": "1000",
        "RETAIL_FIT_ROWS": "2000",
    }


def run(command: str, settings: Settings, **changed: str) -> dict[str, Any]:
    """The JSON object of a command that succeeds."""
    done = retail(*command.split(), "--json", home=settings.home_dir, **variables(settings), **changed)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_every_command_works_with_one_right_on_one_database(
    secured: Settings, server: SecuredServer, shop: Shop, tmp_path: Path
) -> None:
    as_of, user = f"--as-of {AS_OF.isoformat()}", shop.scores["user_id"].iloc[0]
    header, *lines = shop.log.read_text().splitlines()
    (tmp_path / "more.csv").write_text("\n".join([header, *lines[:50], lines[0].replace("2025-", "bad-")]))
    assert run(f"ingest {tmp_path / 'more.csv'}", secured)["rows_read"] == 51
    assert run("quarantine list", secured)["total"] == 1
    for command in (
        "quarantine replay",
        f"ingest undo {tmp_path / 'more.csv'}",
        f"features --out {tmp_path / 'features.parquet'}",
        f"train --model logistic --cutoffs daily {as_of}",
        f"score {as_of} --out {tmp_path / 'scores.csv'}",
        f"audience --budget 10 {as_of} --out {tmp_path / 'audience.csv'}",
        "outcomes",
        "monitor",
        "models list",
        "models promote 2",
        "models rollback",
        f"user show {user}",
        "lake rebuild",
        f"backup {tmp_path / 'backup'}",
        f"user delete {user} --yes",
    ):
        run(command, secured)
    done = retail("doctor", "--json", home=secured.home_dir, **variables(secured))
    checks = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert checks["mongodb"] == checks["clock"] == checks["lake"] == "ok"
    restored = secured.model_copy(
        update={
            "home": tmp_path / "home",
            "mongodb_uri": Settings(mongodb_uri=server.uri("other", PASSWORD)).mongodb_uri,
            "mongodb_database": "other_shop",
        }
    )
    places = f"--home {restored.home_dir} --erasures-from {tmp_path / 'backup'}"
    report = run(f"restore {tmp_path / 'backup'} {places}", restored)
    assert report["collections"]["events"] > 1_000
    settings_text = json.dumps(run("config", secured))
    assert PASSWORD not in settings_text
    assert quote_plus(PASSWORD) not in settings_text


def test_the_service_reads_and_writes_with_one_right_on_one_database(
    secured: Settings, shop: Shop, tmp_path: Path
) -> None:
    user = shop.scores["user_id"].iloc[-1]
    with running_service(secured, tmp_path / "api.log") as client:
        answer = client.post("/predict", json={"user_id": user, "as_of": AS_OF.isoformat()})
        event = {"user_id": user, "event_time": "2025-01-29T10:00:00Z", "event_type": "view_item"}
        posted = client.post("/events", json=event | {"item_id": "i1"})
    assert answer.status_code == httpx.codes.OK, answer.text
    assert posted.json()["inserted"] == 1, posted.text
    assert quote_plus(PASSWORD) not in (tmp_path / "api.log").read_text()
    with open_store(secured) as store:
        assert store.prediction_log.count_documents({"user_id": user}) > 0


def test_a_certificate_replaces_the_password(server: SecuredServer, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mongodb_uri=server.client_uri, mongodb_database="x509_shop")
    assert run("quarantine list", settings)["total"] == 0


def test_two_databases_of_one_server_are_two_shops(mongod_uri: str, tmp_path: Path, shop: Shop) -> None:
    first, second = (
        Settings(home=tmp_path / name, mongodb_uri=mongod_uri, mongodb_database=f"two_{name}")
        for name in ("first", "second")
    )
    lines = shop.log.read_text().splitlines()
    (tmp_path / "log.csv").write_text("\n".join(lines[:21]))
    assert run(f"ingest {tmp_path / 'log.csv'}", first)["events_inserted"] == 20
    assert run(f"ingest {tmp_path / 'log.csv'}", second)["events_inserted"] == 20
    run("user delete " + lines[1].split(",")[lines[0].split(",").index("user_id")] + " --yes", first)
    with open_store(first) as left, open_store(second) as right:
        assert left.events.count_documents({}) < right.events.count_documents({}) == 20
        for store in (left, right):
            store.client.drop_database(store.database.name)


REFUSED = {
    "wrong password": ("mongodb://shop:no@{host}/?{tls}", "the password or the user name shop is wrong"),
    "user of another database": ("mongodb://shop:{password}@{host}/x?{tls}", "authSource (now x)"),
    "no user": ("mongodb://{host}/?{tls}", "requires a user"),
    "read only": (
        "mongodb://reader:{password}@{host}/?{tls}",
        "reader may not createIndexes in",
    ),
    "right on another database": ("mongodb://other:{password}@{host}/?{tls}", "grant readWrite on secured"),
    "certificate without a user": (
        "mongodb://{host}/?{tls}&authMechanism=MONGODB-X509&tlsCertificateKeyFile={folder}/guest.pem",
        "does not accept the credentials",
    ),
    "no TLS": ("mongodb://shop:{password}@{host}/", "add tls=true"),
    "unknown authority": ("mongodb://shop:{password}@{host}/?tls=true", "is not trusted (self-signed"),
    "another authority": (
        "mongodb://shop:{password}@{host}/?tls=true&tlsCAFile={folder}/stranger.pem",
        "is not trusted",
    ),
    "another host name": (
        "mongodb://shop:{password}@localhost:{port}/?directConnection=true&{tls}",
        "is of another host name",
    ),
    "TLS of a plain server": ("mongodb://shop:{password}@{plain}/?{tls}", "does not answer in TLS"),
    "unknown host": ("mongodb://shop:{password}@no.such.host.invalid/?{tls}", "is unknown"),
    "unknown record": ("mongodb+srv://shop:{password}@no.such.host.invalid/?{tls}", "is unknown"),
    "no server": ("mongodb://shop:{password}@127.0.0.1:1/?{tls}", "Connection refused"),
    "another replica set": ("mongodb://shop:{password}@{host}/?{tls}&replicaSet=rs1", "not a member"),
    "standalone": ("mongodb://{standalone}/", "need a replica set"),
}
"""URI and a part of the line that explains it."""


@pytest.fixture(scope="module")
def places(server: SecuredServer, mongod_uri: str, standalone: str) -> dict[str, object]:
    return {
        "host": server.host,
        "port": server.port,
        "tls": server.tls,
        "folder": quote_plus(str(server.folder)),
        "password": quote_plus(PASSWORD),
        "plain": mongod_uri.partition("@")[2].partition("/")[0],
        "standalone": standalone,
    }


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that is no replica set."""
    folder, port = tmp_path_factory.mktemp("standalone"), free_port()
    binary = locate_binary(ServerFiles(folder))
    command = [binary, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    process = subprocess.Popen([*command, "--wiredTigerCacheSizeGB", "0.25"], stdout=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    process.kill()
    process.wait(30)


@pytest.mark.parametrize("case", REFUSED)
def test_each_refusal_is_one_line_with_a_remedy(places: dict[str, object], tmp_path: Path, case: str) -> None:
    template, expected = REFUSED[case]
    uri = template.format(**places)
    if case != "standalone":
        uri += ("&" if "?" in uri else "?") + "serverSelectionTimeoutMS=2000"
    settings = {"RETAIL_MONGODB_URI": uri, "RETAIL_MONGODB_DATABASE": DATABASE}
    done = retail("quarantine", "list", "--json", home=tmp_path, **settings)
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert expected in line
    assert "Remedy: " in line
    report = json.loads(done.stdout)
    assert line == f"error: {report['error']} Remedy: {report['remedy']}"
    for secret in (PASSWORD, quote_plus(PASSWORD), ":no@"):
        assert secret not in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("tlsCAFile={folder}/none.pem", "none.pem, which RETAIL_MONGODB_URI names, cannot be read"),
        ("tlsCAFile={folder}/keyfile", "The certificates that RETAIL_MONGODB_URI names are not usable"),
        ("{tls}&tlsCertificateKeyFile={folder}/authority.pem", "do not belong together"),
        ("{tls}&tlsInsecure=maybe", "is not a usable MongoDB URI"),
        ("{tls}&tlsCertificate=x", "has the unknown option tlscertificate"),
    ],
)
def test_a_wrong_file_or_option_is_the_users_mistake(
    places: dict[str, object], tmp_path: Path, options: str, expected: str
) -> None:
    uri = f"mongodb://shop:s3cret@{places['host']}/?tls=true&" + options.format(**places).replace(
        "tls=true&", ""
    )
    done = retail("quarantine", "list", "--json", home=tmp_path, RETAIL_MONGODB_URI=uri)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert expected in line
    assert "s3cret" not in line


def test_a_right_that_is_taken_away_while_a_command_runs_is_named(
    server: SecuredServer, tmp_path: Path
) -> None:
    server.create_user("former", PASSWORD, DATABASE)
    uri = server.uri("former", PASSWORD)
    settings = Settings(home=tmp_path, mongodb_uri=uri, mongodb_database=DATABASE)
    with open_store(settings) as store, server.administrator() as client:
        client.admin.command("revokeRolesFromUser", "former", roles=[{"role": "readWrite", "db": DATABASE}])
        with pytest.raises(OperationFailure) as caught:
            store.events.insert_one({"_id": "x"})
    text = str(known_mongodb_error(settings, caught.value))
    assert "The user former may not insert in the database secured_shop" in text


def test_a_secondary_is_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mongodb_uri="mongodb://h/?directConnection=true")
    text = str(mongodb_error(settings, NotPrimaryError("not primary")))
    assert "MongoDB at mongodb://h/ is not the primary of its replica set" in text


@pytest.mark.parametrize("name", ["a shop", "a/b", "a.b", "", "$shop", "x" * 64])
def test_a_database_name_that_mongodb_does_not_accept_is_refused(tmp_path: Path, name: str) -> None:
    done = retail("quarantine", "list", "--json", home=tmp_path, RETAIL_MONGODB_DATABASE=name)
    assert done.returncode == 1
    assert variable_name("mongodb_database") in json.loads(done.stdout)["error"]


def test_all_users_of_the_tests_have_one_role(server: SecuredServer) -> None:
    """The commands above ran with nothing but `readWrite`."""
    client: MongoClient[dict[str, Any]]
    with server.administrator() as client:
        users = client.admin.command("usersInfo", {"user": "shop", "db": "admin"})["users"]
    assert [role["role"] for role in users[0]["roles"]] == ["readWrite"]
