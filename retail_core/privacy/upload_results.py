"""Upload results that contain a user: BentoML stores each scored CSV as a row of a SQLite file."""

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
"""Timeout for a lock that the running service holds on the file."""

_RESULT_OF_TASK = "SELECT result FROM result WHERE task_id = ?"
_FINISHED_TASKS = "SELECT task_id FROM result WHERE completed_at IS NOT NULL"
_FIRST_ERROR_STATUS = 400


def upload_results(settings: Settings, user_id: str) -> Iterator[Document]:
    """Finished results that contain the user: `task_id` and `rows`, the user's rows of the scored CSV.

    An error response has no rows; it is included if its text contains the user's id.

    Raises:
        DependencyError: the file cannot be read.
    """
    with _open_database(settings) as database:
        yield from _results_of_user(database, user_id)


def erase_upload_results(settings: Settings, user_id: str) -> None:
    """Delete the finished results that contain the user; results of running tasks stay.

    Each result is deleted in its own transaction, which keeps the locks short, and is overwritten on disk.

    Raises:
        DependencyError: the file cannot be written.
    """
    with _open_database(settings) as database:
        task_ids = [result["task_id"] for result in _results_of_user(database, user_id)]
        if not task_ids:
            return
        database.execute("PRAGMA secure_delete=ON")
        for task_id in task_ids:
            database.execute("DELETE FROM result WHERE task_id = ? AND completed_at IS NOT NULL", (task_id,))
        # A checkpoint that waits for readers blocks writers, and the service gives up after five seconds.
        database.execute("PRAGMA busy_timeout=1000")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _open_database(settings: Settings) -> Iterator[sqlite3.Connection]:
    """Open the existing file; without one, an empty database in memory."""
    file = settings.upload_results
    name = f"{file.absolute().as_uri()}?mode=rw" if file.exists() else ":memory:"
    try:
        with closing(sqlite3.connect(name, timeout=WAIT_SECONDS, isolation_level=None, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise DependencyError(
            f"The results of uploads in {file} cannot be used: {error}.",
            remedy="run the command again; where that does not help, delete the file while the API is down.",
        ) from error


def _results_of_user(database: sqlite3.Connection, user_id: str) -> Iterator[Document]:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'result'").fetchall():
        return
    for (task_id,) in database.execute(_FINISHED_TASKS).fetchall():
        for (stored,) in database.execute(
            "SELECT result FROM result WHERE task_id = ?", (task_id,)
        ).fetchall():
            rows = _rows_of_user(stored, user_id)
            if rows is not None:
                yield {"task_id": task_id, "rows": rows}


def _rows_of_user(stored: bytes | None, user_id: str) -> list[dict[str, str]] | None:
    """The user's rows of a stored response; None where it does not contain the user."""
    response = json.loads(stored or b'{"status": 200, "content": ""}')
    text = base64.b64decode(response["content"]).decode("utf-8", "replace")
    if response["status"] >= _FIRST_ERROR_STATUS:
        return [] if re.search(rf"(?<!\w){re.escape(user_id)}(?!\w)", text) else None
    if user_id.replace('"', '""') not in text:
        return None
    csv_id = escape_formula(user_id)
    return [row for row in csv.DictReader(io.StringIO(text, newline="")) if row["user_id"] == csv_id] or None
