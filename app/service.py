"""The client of the service, connected as the settings say."""

from __future__ import annotations

from retail_core.api_keys import client_key
from retail_core.client import Client
from retail_core.settings import Settings

TIMEOUT_SECONDS = 300.0
EXPLAINED_USERS = 1_000
ALL_INTERFACES = ("0.0.0.0", "::")  # nosec B104 # noqa: S104 - compared, not bound


def url(settings: Settings) -> str:
    """Address of the service, as this machine reaches it."""
    host = "127.0.0.1" if settings.api_host in ALL_INTERFACES else settings.api_host
    return f"http://{host}:{settings.api_port}"


def connect(settings: Settings) -> Client:
    """A client with the key of the settings; it does not retry, so that a page answers at once."""
    return Client(
        url(settings), api_key=client_key(settings), timeout=TIMEOUT_SECONDS, retries=0, trust_env=False
    )
