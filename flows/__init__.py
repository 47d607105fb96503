"""Prefect flows: order, retries, artifacts and events. What is done is `retail_core`'s."""

from flows.environment import prepare

prepare()
