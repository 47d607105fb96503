"""Requests that the OpenAPI document allows get the responses that it describes (schemathesis)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.examples import examples
from tests.serving import Service

pytestmark = pytest.mark.integration

EXAMPLES = 12
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


SUBMIT, RELOAD = "/score_batch", "/model/reload"
NOT_SUBMIT = {"negative_data_rejection"}
"""A task with an invalid field is accepted and fails: BentoML reads the fields when it runs."""


def contract_test(url: str, examples: int, seed: int) -> list[subprocess.CompletedProcess[str]]:
    """Run schemathesis over every route but the one that changes the model."""
    most = ("--checks", ",".join(CHECKS), "--exclude-path", SUBMIT, "--exclude-path", RELOAD)
    submit_checks = [check for check in CHECKS if check not in NOT_SUBMIT]
    submit = ("--checks", ",".join(submit_checks), "--include-path", SUBMIT)
    return [
        _run(url, ("--max-examples", str(examples), "--seed", str(seed), *which)) for which in (most, submit)
    ]


def _run(url: str, options: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    script = "from schemathesis.cli import schemathesis; schemathesis()"
    command = [
        *(sys.executable, "-c", script, "run", f"{url}/openapi.json", "--phases", "coverage,fuzzing"),
        *(*options, "--continue-on-failure", "--request-timeout", "60"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_responses_conform_to_the_openapi_document(registered_service: Service) -> None:
    for done in contract_test(registered_service.url, examples(EXAMPLES), seed=7):
        assert done.returncode == 0, done.stdout[-6000:]
        assert "Tested" in done.stdout
