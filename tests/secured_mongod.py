"""A MongoDB server that requires TLS and a user, as an operator of one's own server runs it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import psutil
from pymongo import MongoClient

from retail_core.settings import Settings
from retail_core.store.mongod.process import ServerFiles, locate_binary
from retail_core.subprocesses import free_port
from tests.certificates import Authority

ROOT_PASSWORD = "root's password"
CLIENT_SUBJECT = "OU=clients,CN=client,O=Shop"


@dataclass(frozen=True)
class SecuredServer:
    """The server. `folder` also has `client.pem`, `guest.pem` (no user) and `stranger.pem` (an authority)."""

    folder: Path
    port: int

    @property
    def host(self) -> str:
        """Address in URIs."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls(self) -> str:
        """Options of a URI for an encrypted connection to a verified server."""
        return f"tls=true&tlsCAFile={quote_plus(str(self.folder / 'authority.pem'))}"

    def uri(self, user: str, password: str, options: str = "") -> str:
        """URI of a user; special characters are percent-encoded."""
        return f"mongodb://{quote_plus(user)}:{quote_plus(password)}@{self.host}/?{self.tls}{options}"

    @property
    def client_uri(self) -> str:
        """URI of the user `CLIENT_SUBJECT`, who has a certificate instead of a password."""
        file = quote_plus(str(self.folder / "client.pem"))
        return f"mongodb://{self.host}/?{self.tls}&authMechanism=MONGODB-X509&tlsCertificateKeyFile={file}"

    def administrator(self) -> MongoClient[dict[str, Any]]:
        """Client with all rights."""
        return MongoClient(self.uri("root", ROOT_PASSWORD), tz_aware=True)

    def create_user(self, name: str, password: str, database: str, role: str = "readWrite") -> None:
        """A user with one role on one database."""
        with self.administrator() as client:
            client.admin.command("createUser", name, pwd=password, roles=[{"role": role, "db": database}])


@contextmanager
def secured_mongod(folder: Path) -> Iterator[SecuredServer]:
    """A replica set of one below `folder` until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, server = Authority(folder, "authority"), SecuredServer(folder, free_port())
    certificate = authority.certificate("server", host="127.0.0.1")
    # A certificate with the server's organization and unit would be one of a member of the replica set.
    for client in ("client", "guest"):
        authority.certificate(client, unit="clients")
    Authority(folder, "stranger")
    key_file, data = folder / "keyfile", folder / "data"
    key_file.touch(0o600)
    key_file.write_text(secrets.token_hex(32))
    data.mkdir()
    options = {
        "dbpath": data,
        "logpath": folder / "mongod.log",
        "port": server.port,
        "bind_ip": "127.0.0.1",
        "replSet": "rs0",
        "keyFile": key_file,
        "tlsMode": "requireTLS",
        "tlsCertificateKeyFile": certificate,
        "tlsCAFile": authority.file,
        "wiredTigerCacheSizeGB": "0.25",
        "oplogSize": "64",
    }
    flags = ["--fork", "--nounixsocket", "--tlsAllowConnectionsWithoutCertificates"]
    command = [f"--{name}={value}" for name, value in options.items()]
    binary = locate_binary(ServerFiles(folder))
    subprocess.run([binary, *flags, *command], check=True, stdout=subprocess.DEVNULL)
    process = psutil.Process(int((data / "mongod.lock").read_text()))
    try:
        _create_administrator(server)
        yield server
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)


def _create_administrator(server: SecuredServer) -> None:
    uri = f"mongodb://{server.host}/?directConnection=true&{server.tls}"
    with MongoClient(uri) as client:
        members = [{"_id": 0, "host": server.host}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
    # The driver waits until there is a primary.
    with MongoClient(f"mongodb://{server.host}/?replicaSet=rs0&{server.tls}") as client:
        client.admin.command("createUser", "root", pwd=ROOT_PASSWORD, roles=["root"])


def move_shop(settings: Settings, server: SecuredServer, uri: str, database: str) -> Settings:
    """Copy the database of `settings` to `database` on the secured server; settings that lead there."""
    assert settings.mongodb_uri is not None
    source: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri.get_secret_value())
    with source, server.administrator() as target:
        # Another test may have opened the database already.
        target.drop_database(database)
        for name in source[settings.mongodb_database].list_collection_names():
            documents = list(source[settings.mongodb_database][name].find())
            if documents:
                target[database][name].insert_many(documents, ordered=False)
    return Settings(home=settings.home, mongodb_uri=uri, mongodb_database=database)
