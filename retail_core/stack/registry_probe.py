"""Query a tracking server for a production model without importing MLflow (8 s, 300 MB)."""

from __future__ import annotations

import os

from retail_core.settings import Settings
from retail_core.stack.services import runs_mlflow, tracking_url

CHAMPION_ALIAS = "production"
PROBE_SECONDS = 5.0


def champion_missing(settings: Settings) -> bool:
    """Whether no version has the production alias; True also while the server does not answer.

    A server that refuses the credentials (401, 403) counts as having one: the API checks again and says why.
    """
    import httpx

    url = f"{tracking_url(settings).rstrip('/')}/api/2.0/mlflow/registered-models/alias"
    query = {"name": settings.model_name, "alias": CHAMPION_ALIAS}
    try:
        answer = httpx.get(
            url,
            params=query,
            timeout=PROBE_SECONDS,
            trust_env=not runs_mlflow(settings),
            auth=tracking_credentials(),
        )
    except httpx.HTTPError:
        return True
    return answer.status_code not in {200, 401, 403}


def tracking_credentials() -> tuple[str, str] | None:
    """User and password from the variables that MLflow's own client reads; None without a user."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
