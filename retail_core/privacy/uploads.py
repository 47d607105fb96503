"""Results of uploads that hold a user: BentoML keeps them in a SQLite file, a scored CSV a row."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from retail_core.csv_export import escape_formula
from retail_core.errors import DependencyError
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Document

WAIT_SECONDS = 30
"""How long a write of the service is waited for."""

_FINISHED = "SELECT task_id FROM result WHERE completed_at IS NOT NULL"
_GOOD = 400


def upload_results(settings: Settings, user_id: str) -> Iterator[Document]:
    """The finished results that hold the user: `task_id`, and `rows`, the user's rows of the scored CSV.

    An answer that is an error has no rows and counts where its text names the user.

    Raises:
        DependencyError: the file cannot be read.
    """
    with _opened(settings) as database:
        yield from _of_user(database, user_id)


def erase_upload_results(settings: Settings, user_id: str) -> None:
    """Remove the finished results that hold the user, whole; those of running tasks are not touched.

    Each is removed by itself, so that the service never waits long; what it held is overwritten.

    Raises:
        DependencyError: the file cannot be written.
    """
    with _opened(settings) as database:
        tasks = [one["task_id"] for one in _of_user(database, user_id)]
        if not tasks:
            return
        database.execute("PRAGMA secure_delete=ON")
        for task in tasks:
            database.execute("DELETE FROM result WHERE task_id = ? AND completed_at IS NOT NULL", (task,))
        # A checkpoint holds up writers while it waits for readers: the service gives up after five seconds.
        database.execute("PRAGMA busy_timeout=1000")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _opened(settings: Settings) -> Iterator[sqlite3.Connection]:
    """The file, never made anew; an empty one in memory where there is none."""
    file = settings.upload_results
    name = f"{file.absolute().as_uri()}?mode=rw" if file.exists() else ":memory:"
    try:
        with closing(sqlite3.connect(name, WAIT_SECONDS, isolation_level=None, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise DependencyError(
            f"The results of uploads in {file} cannot be used: {error}.",
            remedy="run the command again; where that does not help, delete the file while the API is down.",
        ) from error


def _of_user(database: sqlite3.Connection, user_id: str) -> Iterator[Document]:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'result'").fetchall():
        return
    for (task,) in database.execute(_FINISHED).fetchall():
        for (stored,) in database.execute("SELECT result FROM result WHERE task_id = ?", (task,)).fetchall():
            rows = _rows(stored, user_id)
            if rows is not None:
                yield {"task_id": task, "rows": rows}


def _rows(stored: bytes | None, user_id: str) -> list[dict[str, str]] | None:
    """The user's rows of a stored answer; None where it does not hold the user."""
    answer = json.loads(stored or b'{"status": 200, "content": ""}')
    text = base64.b64decode(answer["content"]).decode("utf-8", "replace")
    if answer["status"] >= _GOOD:
        return [] if re.search(rf"(?<!\w){re.escape(user_id)}(?!\w)", text) else None
    if user_id.replace('"', '""') not in text:
        return None
    written = escape_formula(user_id)
    return [row for row in csv.DictReader(io.StringIO(text, newline="")) if row["user_id"] == written] or None
