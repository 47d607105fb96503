"""How fast the simulator is: `python -m tests.benchmarks.bench_simulate`, one JSON line."""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path

from retail_core.simulate import SimulationConfig, simulate


def main() -> None:
    """Simulate the default period with truth, and print events a second and the process's peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        report = simulate(SimulationConfig(), Path(folder) / "log.csv", Path(folder) / "truth.parquet")
    print(
        json.dumps(
            {
                "events": report.events,
                "seconds": round(report.seconds, 2),
                "seconds_per_million": round(report.seconds / report.events * 1e6, 2),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
