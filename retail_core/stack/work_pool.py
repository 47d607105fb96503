"""`python -m retail_core.stack.work_pool [--own-server]`: prepare Prefect before a worker starts.

Creates the work pool. Of the scheduled runs that were missed while no worker ran, the newest of each
deployment stays and the others are cancelled. On the stack's own server, runs that are unfinished while no
worker exists have lost their process (a killed stack): they are marked as crashed, since they would occupy
their deployment's only slot forever. Uses HTTP, since importing Prefect takes seconds.
"""

from __future__ import annotations

import base64
import os
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from retail_core.errors import DependencyError
from retail_core.stack.services import POOL

if TYPE_CHECKING:
    import httpx

UNFINISHED = ("RUNNING", "PENDING", "CANCELLING")
PAGE = 200


def ensure_pool(client: httpx.Client) -> bool:
    """Create the process pool where it is missing; True if it was. An existing one is left as it is.

    Raises:
        httpx.HTTPError: the server refuses or does not answer.
    """
    existing = client.get(f"/work_pools/{POOL}")
    if existing.status_code != HTTPStatus.NOT_FOUND:
        existing.raise_for_status()
        return False
    client.post("/work_pools/", json={"name": POOL, "type": "process"}).raise_for_status()
    return True


def crash_lost_runs(client: httpx.Client) -> int:
    """Mark every unfinished run of the pool as crashed; returns how many there were.

    Raises:
        httpx.HTTPError: the server refuses or does not answer.
    """
    unfinished: dict[str, Any] = {
        "flow_runs": {"state": {"type": {"any_": list(UNFINISHED)}}},
        "work_pools": {"name": {"any_": [POOL]}},
        "limit": PAGE,
    }
    state = {"type": "CRASHED", "message": "The stack ended while this ran."}
    count = 0
    while runs := client.post("/flow_runs/filter", json=unfinished).raise_for_status().json():
        for run in runs:
            change = {"state": state, "force": True}
            client.post(f"/flow_runs/{run['id']}/set_state", json=change).raise_for_status()
        count += len(runs)
    return count


def cancel_missed_runs(client: httpx.Client, now: datetime) -> int:
    """Cancel the scheduled runs that are due, except the newest of each deployment; how many there were.

    Args:
        client: of Prefect's API.
        now: current time, aware.

    Raises:
        httpx.HTTPError: the server refuses or does not answer.
    """
    due: dict[str, Any] = {
        "flow_runs": {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"before_": now.isoformat()},
        },
        "work_pools": {"name": {"any_": [POOL]}},
        "sort": "EXPECTED_START_TIME_DESC",
        "limit": PAGE,
    }
    state = {
        "type": "CANCELLED",
        "message": "Missed while no worker ran; a later run of the schedule is due.",
    }
    count = 0
    while True:
        runs = client.post("/flow_runs/filter", json=due).raise_for_status().json()
        with_newer, deployments = [], set[str]()
        for run in runs:
            if run["auto_scheduled"] and run["deployment_id"] in deployments:
                with_newer.append(run)
            if run["auto_scheduled"]:
                deployments.add(run["deployment_id"])
        for run in with_newer:
            change = {"state": state, "force": True}
            client.post(f"/flow_runs/{run['id']}/set_state", json=change).raise_for_status()
        count += len(with_newer)
        if not with_newer:
            return count


def main() -> int:
    """Prepare the server at PREFECT_API_URL; the exit code.

    It is authenticated by PREFECT_API_AUTH_STRING (`user:password`, a server of one's own) or PREFECT_API_KEY
    (Prefect Cloud), as Prefect's own client is.
    """
    import httpx

    own_server = "--own-server" in sys.argv
    api = os.environ["PREFECT_API_URL"]
    with httpx.Client(base_url=api, timeout=60, headers=_credentials(), trust_env=not own_server) as client:
        try:
            created = ensure_pool(client)
            lost = crash_lost_runs(client) if own_server else 0
            missed = cancel_missed_runs(client, datetime.now(UTC))
        except httpx.HTTPError as error:
            refusal = _refusal(api, error)
            sys.stderr.write(f"{refusal}\n")
            return refusal.exit_code
    state = "created" if created else "exists"
    sys.stdout.write(
        f"pool {POOL} {state}; {lost} lost runs marked as crashed, {missed} missed runs cancelled\n"
    )
    return 0


def _credentials() -> dict[str, str]:
    """The header of a request to Prefect."""
    if auth_string := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(auth_string.encode()).decode()}"}
    if api_key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {api_key}"}
    return {}


def _refusal(api: str, error: httpx.HTTPError) -> DependencyError:
    import httpx

    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}:
        return DependencyError(
            f"Prefect at {api} refused the credentials.",
            remedy="correct PREFECT_API_AUTH_STRING (user:password), or PREFECT_API_KEY of Prefect Cloud.",
        )
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DependencyError(
        f"Prefect at {api} cannot be used: {first_line}.", remedy="start it, or correct PREFECT_API_URL."
    )


if __name__ == "__main__":
    sys.exit(main())
