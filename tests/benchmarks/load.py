"""Load on a server, by wrk."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

CONNECTIONS = 16
REPORT = """
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout, summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests a second, share of failed ones, latencies in milliseconds."""

    rate: float
    error_share: float
    p50: float
    p99: float


def wrk(url: str, bodies: list[dict[str, Any]], *, seconds: int, connections: int, folder: Path) -> Load:
    """Post the bodies in turn."""
    texts = ",\n".join(f"[==[{json.dumps(body)}]==]" for body in bodies)
    script = folder / "post.lua"
    script.write_text(
        f'local bodies = {{{texts}}}\nlocal next = 0\nwrk.method = "POST"\n'
        'wrk.headers["content-type"] = "application/json"\n'
        "request = function()\n  next = next % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[next])\nend\n" + REPORT
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert figures, output
    requests, errors, micros, p50, p99 = (int(number) for number in figures.groups())
    return Load(requests / micros * 1e6, errors / max(1, requests), p50 / 1000, p99 / 1000)


def middle(loads: list[Load]) -> Load:
    """Median of each figure."""
    return Load(
        *(
            median(values)
            for values in zip(*((o.rate, o.error_share, o.p50, o.p99) for o in loads), strict=True)
        )
    )
