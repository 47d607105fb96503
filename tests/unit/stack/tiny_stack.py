"""A stack of tiny real processes for the tests of the supervisor: `python tiny_stack.py HOME TABLE.json`.

The table is a list of `Service` fields; `{python}` in a command stands for this interpreter. A service
with `wait_for` waits until that file exists.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from retail_core.errors import RetailError
from retail_core.stack.child import Service
from retail_core.stack.ownership import owned
from retail_core.stack.state import StackFiles
from retail_core.stack.supervisor import SharedContext, Stop, Supervisor, refuse_busy_ports


def echo(line: str) -> None:
    print(line, flush=True)


def service(entry: dict[str, object]) -> Service:
    path = entry.pop("wait_for", None)
    command = tuple(str(word).replace("{python}", sys.executable) for word in entry.pop("command"))
    after = tuple(entry.pop("after", ()))
    wait = (lambda: None if Path(str(path)).exists() else "waits for a file") if path else None
    return Service(command=command, after=after, wait=wait, **entry)


def main() -> int:
    home, table = Path(sys.argv[1]), [service(entry) for entry in json.loads(Path(sys.argv[2]).read_text())]
    stop = Stop()
    files = StackFiles(home)
    try:
        with stop.listening(), owned(files, echo) as state:
            refuse_busy_ports(table)
            context = SharedContext(files, dict(os.environ), home, echo)
            echo(f"ended by {Supervisor(table, state, context, stop).run(lambda: echo('READY'))}")
    except RetailError as error:
        echo(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
