"""Prefect flows: order of steps, retries, artifacts and events. The work itself is in `retail_core`."""

from flows.prefect_environment import configure_prefect

configure_prefect()
