"""Thousands of cases from our OpenAPI document against the running service; what failed is printed.

    python -m tests.benchmarks.bench_contract [--examples 700] [--seed 7]

So many cases at most are generated for each operation, beside those of the coverage phase; the last line of
schemathesis says how many there were. The integration test does the same with few.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from retail_core.settings import Settings
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.integration.test_contract import contract_test
from tests.serving import register_shop, running_service


def main() -> int:
    """Run and print; 1 where the service broke its word."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=700)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        mongod = Settings(home=folder / "mongod")
        try:
            settings = register_shop(Settings(home=folder / "shop", mongodb_uri=ensure_mongod(mongod)))
            with running_service(settings, folder / "api.log") as api:
                runs = contract_test(str(api.base_url).rstrip("/"), options.examples, options.seed)
        finally:
            stop_mongod(mongod)
    for done in runs:
        print(done.stdout[-4000:] if done.returncode else "\n".join(done.stdout.splitlines()[-12:]))
    cases = sum(int(number) for done in runs for number in re.findall(r"(\d+) generated", done.stdout))
    print(f"{cases} cases in {time.perf_counter() - begun:.0f} s")
    return max(done.returncode for done in runs)


if __name__ == "__main__":
    sys.exit(main())
