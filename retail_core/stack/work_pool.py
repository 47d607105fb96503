"""`python -m retail_core.stack.work_pool [--own-server]`: prepare Prefect before a worker starts.

Creates the work pool. On the stack's own server, runs that are unfinished while no worker exists have
lost their process (a killed stack): they are marked as crashed, since they would occupy their
deployment's only slot forever. Uses HTTP, since importing Prefect takes seconds.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

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
    if existing.is_success:
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


def main() -> None:
    """Prepare the server at PREFECT_API_URL, authenticated by PREFECT_API_KEY where set."""
    import httpx

    own_server = "--own-server" in sys.argv
    api_key = os.environ.get("PREFECT_API_KEY")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    api = os.environ["PREFECT_API_URL"]
    with httpx.Client(base_url=api, timeout=60, headers=headers, trust_env=not own_server) as client:
        created = ensure_pool(client)
        lost = crash_lost_runs(client) if own_server else 0
    state = "created" if created else "exists"
    sys.stdout.write(f"pool {POOL} {state}; {lost} lost runs marked as crashed\n")


if __name__ == "__main__":
    main()
