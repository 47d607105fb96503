"""How many generated examples a test runs: TEST_EXAMPLES_FACTOR multiplies every number, for nightly runs."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("TEST_EXAMPLES_FACTOR", "1"))


def examples(count: int) -> int:
    return max(1, round(count * FACTOR))
