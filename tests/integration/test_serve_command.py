"""`retail serve` and the service it starts end together, on SIGTERM and on Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retail_core.settings import Settings
from retail_core.subprocesses import ROOT, free_port, is_reachable, port_is_free, wait_until
from tests.serving import environment

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.mark.parametrize(("sign", "options"), [(signal.SIGTERM, []), (signal.SIGINT, ["--json"])])
def test_the_service_ends_with_the_command(
    registered: Settings,
    tmp_path: Path,
    sign: signal.Signals,
    options: list[str],
) -> None:
    port, log = free_port(), tmp_path / "serve.log"
    command = ["-c", "from retail_core.cli import main; main()", "serve", "--port", str(port), *options]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment(registered),
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as served,
    ):
        try:
            wait_until(lambda: is_reachable(f"http://127.0.0.1:{port}/readyz"), served, log)
            served.send_signal(sign)
            output, _ = served.communicate(timeout=60)
        finally:
            served.kill()
    assert served.returncode == 0, log.read_text()[-2000:]
    for _ in range(300):
        if port_is_free("127.0.0.1", port):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the service still runs")
    if options:
        assert json.loads(output) == {"host": "127.0.0.1", "port": port, "exit_code": 0}
