"""Fail if the coverage of a package that the last test run measured is below its floor.

Run by `make test-all` and `.ci/run` after the tests, on the data in `.coverage`. Silent if every floor holds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from coverage import Coverage

FLOORS = {
    "retail_core": (95, 88),
    "flows": (93, 80),
    "bentos": (74, 55),
    "app": (84, 63),
}
"""Minimum line and branch coverage of each package in percent.

Coverage of `bentos` counts services that end by themselves only: a killed process saves none.
"""


def measure_packages() -> dict[str, tuple[float, float]]:
    """Line and branch coverage of each package in percent."""
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    counts: dict[str, Counter[str]] = {package: Counter() for package in FLOORS}
    for path, file in files.items():
        counts[Path(path).parts[0]].update(
            {name: count for name, count in file["summary"].items() if isinstance(count, int)}
        )
    return {
        package: (
            100 * count["covered_lines"] / count["num_statements"],
            100 * count["covered_branches"] / count["num_branches"],
        )
        for package, count in counts.items()
    }


def main() -> int:
    """Print what is below its floor, everything with --all; 1 if something is below."""
    failed = 0
    for package, measured in measure_packages().items():
        for kind, percent, floor in zip(("line", "branch"), measured, FLOORS[package], strict=True):
            failed |= percent < floor
            if percent < floor or "--all" in sys.argv:
                sys.stdout.write(
                    f"{package}: {kind} coverage {percent:.1f} %, at least {floor} % is required\n"
                )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
