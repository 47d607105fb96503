"""The client of the service, connected as the settings say."""

from __future__ import annotations

from retail_core.client import Client
from retail_core.settings import Settings

TIMEOUT_SECONDS = 300.0
EXPLAINED_USERS = 1_000
ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def url(settings: Settings) -> str:
    """Address of the service, as this machine reaches it."""
    host = "127.0.0.1" if settings.api_host in ALL_INTERFACES else settings.api_host
    return f"http://{host}:{settings.api_port}"


def connect(settings: Settings) -> Client:
    """A client with the first of the settings' keys; it does not retry, so that a page answers at once."""
    keys = settings.api_keys.get_secret_value().split(",") if settings.api_keys else [""]
    return Client(url(settings), api_key=keys[0].strip(), timeout=TIMEOUT_SECONDS, retries=0, trust_env=False)
