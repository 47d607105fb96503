"""Services as a shop runs them itself, each with authentication: MongoDB, MLflow, Prefect and an S3 server.

All listen on free ports of loopback and end with the test.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import httpx
from pymongo import MongoClient

from retail_core.settings import Settings
from retail_core.subprocesses import free_port, is_reachable, start, stop, wait_until
from tests.home_copies import new_database_name
from tests.process_environment import clean_environment, without_coverage

BUCKET = "shop"
USER = "shop"
PASSWORD = "p%:/@ss w0rd"
"""Has the characters that must be quoted in a URI."""

ADMIN = ("admin", "an-administrator")
PREFECT_AUTH = "admin:prefect-secret"


@dataclass(frozen=True)
class Server:
    """How to start a server of Python's, the URL that answers when it is ready, and what its clients set."""

    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    health: str
    client_variables: dict[str, str]


@contextmanager
def own_services(folder: Path, mongod_uri: str, registry: Settings) -> Iterator[dict[str, str]]:
    """Start all servers at the same time; yields the variables that a shop sets to use them.

    Args:
        folder: for the servers' files; their logs are in it too.
        mongod_uri: a MongoDB with a key file, as its administrator.
        registry: a home with MLflow's tables, which take seconds to create.
    """
    s3 = s3_server()
    servers = {"s3": s3, "mlflow": mlflow_server(folder, s3, registry), "prefect": prefect_server(folder)}
    with ExitStack() as stack:
        starting = []
        for name, server in servers.items():
            log = folder / f"{name}.log"
            environment = without_coverage(clean_environment()) | server.environment
            process = start(server.module, server.arguments, environment, log)
            stack.callback(stop, process)
            starting.append((server, process, log))
        variables = stack.enter_context(mongodb_user(mongod_uri))
        for server, process, log in starting:
            wait_until(lambda url=server.health: is_reachable(url), process, log)
            variables |= server.client_variables
        create_bucket(s3)
        create_mlflow_user(variables["MLFLOW_TRACKING_URI"])
        yield variables | {"RETAIL_LAKE": f"s3://{BUCKET}/lake"}


def s3_server() -> Server:
    """An S3 server; clients reach it by the variables of Amazon's tools."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    client_variables = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    arguments = ("-H", "127.0.0.1", "-p", str(port))
    return Server("moto.server", arguments, {}, f"{url}/moto-api/", client_variables)


def mlflow_server(folder: Path, s3: Server, registry: Settings) -> Server:
    """MLflow with users, and with artifacts that it stores in the S3 server itself."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    database = folder / "mlflow.db"
    shutil.copyfile(registry.home_dir / "mlflow" / "mlflow.db", database)
    with sqlite3.connect(database) as tables:
        # The product creates its experiment as its own user, who may then write to it.
        tables.execute("UPDATE experiments SET name = 'another' WHERE name = ?", (registry.model_name,))
    tables.close()
    config = folder / "basic_auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'mlflow-users.db'}\n"
        # As docker/mlflow-auth.ini: hashing the password at each request took 60 s of CPU time.
        "auth_cache_ttl_seconds = 60\n"
    )
    environment = s3.client_variables | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    arguments = f"server --app-name basic-auth --workers 1 --host 127.0.0.1 --port {port}".split()
    client_variables = {
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    return Server("mlflow", tuple(arguments), environment, f"{url}/health", client_variables)


def prefect_server(folder: Path) -> Server:
    """Prefect's server with a database and a password of its own."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        "PREFECT_SERVER_API_AUTH_STRING": PREFECT_AUTH,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    arguments = f"server start --no-ui --host 127.0.0.1 --port {port}".split()
    client_variables = {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": PREFECT_AUTH}
    return Server("prefect", tuple(arguments), environment, f"{api}/health", client_variables)


@contextmanager
def mongodb_user(mongod_uri: str) -> Iterator[dict[str, str]]:
    """A user who may do nothing but read and write one new database; yields the variables of that user."""
    database = new_database_name()
    with MongoClient[dict[str, Any]](mongod_uri) as administrator:
        role = {"role": "readWrite", "db": database}
        administrator[database].command("createUser", USER, pwd=PASSWORD, roles=[role])
        address = urlsplit(mongod_uri).netloc.rpartition("@")[2]
        try:
            yield {
                "RETAIL_MONGODB_URI": f"mongodb://{USER}:{quote(PASSWORD, safe='')}@{address}"
                f"/?replicaSet=rs0&authSource={database}",
                "RETAIL_MONGODB_DATABASE": database,
            }
        finally:
            administrator[database].command("dropUser", USER)
            administrator.drop_database(database)


def create_bucket(s3: Server) -> None:
    """Create `BUCKET`."""
    variables = s3.client_variables
    client = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=BUCKET)


def create_mlflow_user(url: str) -> None:
    """Create a user who is no administrator."""
    body = {"username": USER, "password": PASSWORD}
    httpx.post(f"{url}/api/2.0/mlflow/users/create", json=body, auth=ADMIN).raise_for_status()
