"""A command of `retail` in a process that is killed at a stated call.

A module of its own, so that the server process of `forked_processes` imports it once.
"""

from __future__ import annotations

import importlib
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.command_line import retail
from tests.forked_processes import REGISTRY_MODULES, ForkedProcess, Ready, preload
from tests.kill_points import kill_at

preload([*REGISTRY_MODULES, "tests.killed_commands", "retail_core.workspace", "pymongoarrow.api"])


def run_until_killed(call: str, *arguments: str, home: Path, variables: Mapping[str, str]) -> None:
    """Run a command up to its first call of a function and check that it was killed.

    Args:
        call: `module:function` or `module:class.method`.
        arguments: of the command.
        home: of the command.
        variables: settings; `TMPDIR` applies too.
    """
    started = (call, arguments, home, dict(variables))
    code = ForkedProcess.start(_run, *started, environment=variables).wait()
    assert code == -signal.SIGKILL, f"{arguments} ended with {code}"


def _run(
    ready: Ready, call: str, arguments: tuple[str, ...], home: Path, variables: Mapping[str, str]
) -> None:
    # The server process may have chosen another folder before.
    tempfile.tempdir = None
    module_name, _, path = call.partition(":")
    holder = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    kill_at(holder, name, after=False)
    ready()
    retail(*arguments, home=home, **variables)
