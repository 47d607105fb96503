"""`python -m retail_core.stack`: the stack in a process of its own, as `retail up --detach` starts it."""

from __future__ import annotations

import sys

from retail_core.errors import RetailError
from retail_core.settings import load_settings
from retail_core.stack.commands import up


def _echo(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run until ended; the exit code of the CLI's contract."""
    try:
        up(load_settings(), echo=_echo)
    except RetailError as error:
        _echo(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
