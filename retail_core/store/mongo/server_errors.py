"""Failures of MongoDB as one sentence and a remedy each: address, TLS, credentials, rights, primary, disk.

Separate from `connection`, because failures arrive there and in the middle of any command. No text has the
password, the options of the URI or a document.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
)
from pymongo.uri_parser import parse_uri

from retail_core.disk_space import full_disk, full_disk_text, has_space
from retail_core.errors import AccessError, DependencyError, InputError, RetailError
from retail_core.settings import Settings

_AUTHENTICATION_CODES = (11, 18)
"""UserNotFound, which X.509 users get, and AuthenticationFailed."""
_UNAUTHORIZED, _ATLAS = 13, 8000
_NO_REPLICA_SET = 20
_OUT_OF_DISK_SPACE = 14_031
_LOG_TAIL_BYTES = 200_000
_URI = "RETAIL_MONGODB_URI"

_REPEATED_TIMEOUTS = re.compile(r" \(configured timeouts: [^)]*\)")
_DENIED = re.compile(r"not authorized on (?P<database>\S+) to execute command \{ (?P<command>\w+)")
_UNKNOWN_OPTION = re.compile(r"Unknown option: (?P<name>\w+)")
_CERTIFICATE = re.compile(r"certificate verify failed: (?P<reason>.*?)(?: \(_ssl|$)", re.DOTALL)


@dataclass(frozen=True)
class _Failure:
    """A kind of connection failure: what the driver's text contains, a sentence about it, and the remedy."""

    pattern: str
    message: str
    remedy: str


_CONNECTION_FAILURES = (
    _Failure(
        r"Hostname mismatch|IP address mismatch|not valid for",
        "The certificate of {server} is of another host name",
        f"write the host in {_URI} as the certificate names it.",
    ),
    _Failure(
        r"certificate has expired|not yet valid",
        "The certificate of {server} is not valid now ({reason})",
        "renew it, or correct this machine's clock.",
    ),
    _Failure(
        r"certificate verify failed",
        "The certificate of {server} is not trusted ({reason})",
        f"name the file of the authority that signed it in {_URI}: tlsCAFile=/path/ca.pem.",
    ),
    _Failure(
        r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA",
        "{server} does not accept the TLS certificate of this client",
        f"name the file of a certificate and its key in {_URI}: tlsCertificateKeyFile=/path/client.pem.",
    ),
    _Failure(
        r"WRONG_VERSION_NUMBER|UNEXPECTED_EOF|SSL handshake failed|\[SSL",
        "{server} does not answer in TLS",
        f"remove tls=true from {_URI}, or start the server with --tlsMode requireTLS.",
    ),
    _Failure(
        r"Name or service not known|nodename nor servname|Temporary failure in name|No address associated"
        r"|DNS query name does not exist|resolution lifetime expired|DNS response",
        "The host of {server} is unknown",
        f"correct the host in {_URI}, or the name service of this machine.",
    ),
    _Failure(
        r"[Nn]o replica set members available for replica set name|replica set named",
        "{server} is not a member of the replica set that replicaSet= names",
        f"correct or remove replicaSet= in {_URI}.",
    ),
    _Failure(
        r"[Nn]o replica set members match selector|[Nn]o primary",
        "The replica set of {server} has no primary",
        "see rs.status(), and run the command again when a member is PRIMARY.",
    ),
    _Failure(
        r"connection closed|Connection reset",
        "{server} closes connections, as a server does that requires TLS",
        f"add tls=true and tlsCAFile=/path/ca.pem to {_URI}, or see the server's log.",
    ),
    _Failure(
        r"refused|timed out|unreachable|[Nn]o servers? ",
        "{server} does not answer ({detail})",
        f"start it, correct {_URI}, or unset it to use the embedded server.",
    ),
)
"""The first whose pattern is in the driver's text applies."""


def redact(uri: str) -> str:
    """`uri` without user, password and options, for messages.

    >>> redact("mongodb://app:s3cr@t@db.example:27017/?tlsCertificateKeyFilePassword=x")
    'mongodb://***@db.example:27017/'
    """
    return re.sub(r"//.*@", "//***@", uri).split("?", 1)[0]


def server_label(settings: Settings) -> str:
    """The server in messages."""
    uri = settings.mongodb_uri
    return f"MongoDB at {redact(uri.get_secret_value())}" if uri else "The embedded MongoDB server"


def mongodb_error(settings: Settings, error: Exception) -> DependencyError:
    """The error to raise for any failure of the server that `settings` name."""
    expected = known_mongodb_error(settings, error)
    if expected is not None:
        return expected
    return DependencyError(
        f"{server_label(settings)} cannot be used: {_detail(error)}.",
        remedy=f"see the server's log, correct {_URI}, or unset it to use the embedded server.",
    )


def known_mongodb_error(settings: Settings, error: Exception) -> DependencyError | None:
    """As `mongodb_error`; None where the cause is none that the server's owner or user can remove."""
    if _is_full(settings, error):
        return _disk_is_full(settings)
    if isinstance(error, OperationFailure | WriteConcernError):
        return _refusal(settings, error)
    if isinstance(error, ServerSelectionTimeoutError | ConfigurationError):
        return _no_connection(settings, str(error))
    if isinstance(error, NotPrimaryError):
        return _not_primary(settings)
    if isinstance(error, ConnectionFailure):
        tls_failure = _no_connection(settings, str(error)) if "SSL" in str(error) else None
        return tls_failure or DependencyError(
            "The connection to MongoDB was lost while the command ran.",
            remedy="check MongoDB with `retail doctor`, then run the command again.",
        )
    return None


def check_options(uri: str) -> None:
    """Refuse options that the driver does not know, which it would only warn of and then ignore.

    Raises:
        ConfigurationError: there is one; also a `ValueError` or, for a file, an `OSError`.
    """
    if uri.startswith("mongodb://"):
        parse_uri(uri)


def client_error(settings: Settings, error: Exception) -> RetailError:
    """The error to raise where the driver refuses the URI, or a file or host name in it.

    The driver's text may quote a malformed URI with its password, so it is not shown.
    """
    if isinstance(error, ssl.SSLError) or "Private key" in str(error):
        return InputError(
            f"The certificates that {_URI} names are not usable: {error.strerror or error}."
            if isinstance(error, ssl.SSLError)
            else f"The certificate and the key that {_URI} names do not belong together.",
            remedy="tlsCAFile names a PEM file of authorities, tlsCertificateKeyFile one of a certificate "
            "with its key.",
        )
    if isinstance(error, OSError):
        return InputError(
            f"{error.filename or 'A file'}, which {_URI} names, cannot be read: {error.strerror}.",
            remedy="correct tlsCAFile or tlsCertificateKeyFile in it, or the rights of the file.",
        )
    if isinstance(error, ConfigurationError) and "DNS" in str(error):
        return mongodb_error(settings, error)
    uri = settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else ""
    unknown = _UNKNOWN_OPTION.match(str(error))
    if unknown:
        return InputError(
            f"{_URI} ({redact(uri)}) has the unknown option {unknown['name']}.",
            remedy="correct or remove it; see the options of MongoDB's connection strings.",
        )
    return InputError(
        f"{_URI} ({redact(uri)}) is not a usable MongoDB URI.",
        remedy="write it as mongodb://user:password@host:27017/?replicaSet=rs0, "
        "with special characters percent-encoded.",
    )


def standalone_error(settings: Settings) -> DependencyError:
    """The error to raise for a server that is no replica set."""
    return DependencyError(
        f"{server_label(settings)} is a standalone server; retryable writes need a replica set.",
        remedy="start it with --replSet and run rs.initiate() once (a set of one is enough).",
    )


def _refusal(settings: Settings, error: OperationFailure) -> DependencyError | None:
    text = _detail(error)
    is_atlas = error.code == _ATLAS
    if error.code in _AUTHENTICATION_CODES or (is_atlas and "auth" in text and "not allowed" not in text):
        return _wrong_password(settings)
    if error.code == _UNAUTHORIZED or (is_atlas and "not allowed" in text):
        return _missing_right(settings, text)
    if error.code == _NO_REPLICA_SET and "replica set" in text:
        return standalone_error(settings)
    if isinstance(error, WriteConcernError) and "timed out" in text:
        return DependencyError(
            f"A majority of the replica set of {server_label(settings)} did not confirm a write in time.",
            remedy="see rs.status(): start its members, and run the command again.",
        )
    return None


def _wrong_password(settings: Settings) -> DependencyError:
    user, source = _credentials(settings)
    server = server_label(settings)
    if not user:
        return AccessError(
            f"{server} does not accept the credentials in {_URI}.",
            remedy="correct authMechanism, and for X.509 tlsCertificateKeyFile and the user of its subject.",
        )
    return AccessError(
        f"{server} refused the credentials: the password or the user name {user} is wrong.",
        remedy=f"correct them in {_URI}, with special characters percent-encoded; "
        f"authSource (now {source}) is the database in which the user was created.",
    )


def _missing_right(settings: Settings, text: str) -> DependencyError:
    user, _ = _credentials(settings)
    server = server_label(settings)
    if "requires authentication" in text:
        return AccessError(
            f"{server} requires a user, and {_URI} has none.",
            remedy="write it as mongodb://user:password@host/, with special characters percent-encoded.",
        )
    denied = _DENIED.search(text)
    database = denied["database"] if denied else settings.mongodb_database
    command = denied["command"] if denied else "use collections"
    name = f"The user {user}" if user else "The user of the certificate"
    return AccessError(
        f"{name} may not {command} in the database {database} of {server}.",
        remedy=f"grant readWrite on {database} to the user, or correct RETAIL_MONGODB_DATABASE.",
    )


def _not_primary(settings: Settings) -> DependencyError:
    return DependencyError(
        f"{server_label(settings)} is not the primary of its replica set.",
        remedy=f"name all members in {_URI} without directConnection, and run the command again.",
    )


def _no_connection(settings: Settings, text: str) -> DependencyError | None:
    """The error for a driver's text about a server that it cannot connect to; None if no pattern fits."""
    certificate = _CERTIFICATE.search(text)
    detail = _shortened(text)
    for failure in _CONNECTION_FAILURES:
        if re.search(failure.pattern, text.split(", Timeout:", 1)[0]):
            reason = certificate["reason"] if certificate else detail
            message = failure.message.format(server=server_label(settings), detail=detail, reason=reason)
            return DependencyError(f"{message}.", remedy=failure.remedy)
    return None


def _disk_is_full(settings: Settings) -> DependencyError:
    if settings.mongodb_uri is None:
        return full_disk(settings.home_dir / "mongo")
    return DependencyError(
        f"The disk of {server_label(settings)} is full.",
        remedy="free space on the server, then run the command again.",
    )


def _is_full(settings: Settings, error: Exception) -> bool:
    codes = {getattr(error, "code", None), *(entry.get("code") for entry in _write_errors(error))}
    if _OUT_OF_DISK_SPACE in codes or full_disk_text(_detail(error)):
        return True
    return isinstance(error, ConnectionFailure) and _embedded_disk_is_full(settings)


def _embedded_disk_is_full(settings: Settings) -> bool:
    """Whether the embedded server, which ends when it cannot write, has no space on its disk."""
    folder = settings.home_dir / "mongo"
    if settings.mongodb_uri is not None or not folder.is_dir():
        return False
    log = folder / "mongod.log"
    if not log.is_file() or not has_space(folder):
        return not has_space(folder)
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        tail = stream.read().decode(errors="replace")
    return full_disk_text(tail.rpartition("Build Info")[2])


def _credentials(settings: Settings) -> tuple[str, str]:
    """Name of the user and the database that it was created in; empty where the URI has none."""
    uri = settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else ""
    if not uri.startswith("mongodb://"):
        # A record of the name service decides about mongodb+srv.
        return "", "admin"
    parsed = parse_uri(uri, validate=False)
    return parsed["username"] or "", parsed["options"].get("authSource") or parsed["database"] or "admin"


def _write_errors(error: Exception) -> list[Mapping[str, Any]]:
    if not isinstance(error, BulkWriteError):
        return []
    details: Mapping[str, Any] = error.details or {}
    return [*details.get("writeErrors", []), *details.get("writeConcernErrors", [])]


def _detail(error: Exception) -> str:
    """The server's or the driver's text, in one line, without documents."""
    write_errors = _write_errors(error)
    if write_errors:
        return str(write_errors[0].get("errmsg", ""))
    details = error.details if isinstance(error, OperationFailure) else None
    if details and "errmsg" in details:
        return _shortened(str(details["errmsg"]))
    return _shortened(str(error))


def _shortened(text: str) -> str:
    """The first statement of the driver, which adds timeouts and its view of all servers."""
    statement = text.split(", Timeout:", 1)[0].split(", full error:", 1)[0]
    return _REPEATED_TIMEOUTS.sub("", statement).partition("\n")[0].rstrip(".")
