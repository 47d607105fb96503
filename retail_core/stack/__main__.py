"""`python -m retail_core.stack`: the stack as a daemon, as `retail up --detach` starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from retail_core.errors import RetailError
from retail_core.settings import load_settings
from retail_core.stack.commands import up


def _echo(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _detach(log: Path) -> None:
    """Continue as a daemon that writes to `log`; the parent prints the daemon's pid and exits."""
    daemon = os.fork()
    if daemon:
        _echo(str(daemon))
        os._exit(0)
    os.setsid()
    with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


def main() -> int:
    """Run until ended and return the exit code; `--detach LOG` first makes this process a daemon."""
    if sys.argv[1:2] == ["--detach"]:
        _detach(Path(sys.argv[2]))
    try:
        up(load_settings(), echo=_echo)
    except RetailError as error:
        _echo(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
