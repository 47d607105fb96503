"""Environments of the processes that tests start."""

from __future__ import annotations

import os
from collections.abc import Mapping

SETTINGS_PREFIXES = ("RETAIL_", "MLFLOW_", "PREFECT_", "BENTOML_", "AWS_")


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of the project, its services and S3."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIXES)}


def without_coverage(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the measurement of coverage, which takes half as long again as an import.

    For servers of others, and for our services where other tests measure the same code.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
