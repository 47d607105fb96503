"""CSV files of users: block lists, who was contacted, and who agreed to be contacted or opted out.

A file is accepted or refused as a whole, since a list of which rows are missing would contact somebody who is
on it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from retail_core.csv_export import FORMULA_PREFIXES
from retail_core.errors import InputError
from retail_core.schemas import MAX_ID_LENGTH
from retail_core.sources.text_encoding import encoding_error
from retail_core.store.mongo.connection import Document
from retail_core.times import parse_instant

_TRUE, _FALSE = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
_MAX_BYTES = 500_000_000


def read_users(path: Path) -> list[str]:
    """Ids of the column `user_id`, each once, in the order of the file.

    Raises:
        InputError: the file cannot be read, lacks the column, or a row has no id; names the line.
    """
    return list(dict.fromkeys(row["user_id"] for _, row in _rows(path, ("user_id",))))


def read_consent(path: Path, *, source: str, at: datetime) -> list[Document]:
    """Entries `user_id, consent, source, at`.

    Args:
        path: CSV with `user_id`, `consent` (yes or no) and, if wanted, `source` and `at`.
        source: of rows that state none, such as the name of a form.
        at: of rows that state none, aware.

    Raises:
        InputError: the file cannot be read, lacks a column, or a value is none; names the line.
    """
    entries = []
    for line, row in _rows(path, ("user_id", "consent")):
        answer = row["consent"].strip().lower()
        if answer not in _TRUE | _FALSE:
            raise _refusal(path, line, "consent", row["consent"], "write yes or no")
        moment = _checked(path, line, "at", row.get("at") or "", lambda text: parse_instant(text, "UTC"))
        entries.append(
            {
                "user_id": row["user_id"],
                "consent": answer in _TRUE,
                "source": (row.get("source") or source)[:200],
                "at": moment or at,
            }
        )
    return entries


def _checked(
    path: Path, line: int, name: str, text: str, parse: Callable[[str], datetime]
) -> datetime | None:
    if not text:
        return None
    try:
        return parse(text)
    except InputError as error:
        raise _refusal(path, line, name, text, error.remedy.rstrip(".")) from error


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and values of each row; ids as they were before `csv_export` made them safe for spreadsheets."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    absent = [name for name in columns if name not in (reader.fieldnames or ())]
    if absent:
        raise InputError(
            f"{path} has no column {' and no column '.join(absent)}.",
            remedy=f"name the columns {', '.join(columns)} in the first line.",
        )
    try:
        for row in reader:
            user = (row["user_id"] or "").strip()
            if user[:1] == "'" and user[1:].startswith(FORMULA_PREFIXES):
                user = user[1:]
            if not 0 < len(user) <= MAX_ID_LENGTH:
                allowed = f"give each row an id of 1 to {MAX_ID_LENGTH} characters"
                raise _refusal(path, reader.line_num, "user_id", user[:80], allowed)
            yield (
                reader.line_num,
                {name: value or "" for name, value in row.items() if name} | {"user_id": user},
            )
    except csv.Error as error:
        raise _refusal(path, reader.line_num, "row", str(error), "write the file as CSV") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES:,} bytes.", remedy="split the file.")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise encoding_error(path, "utf-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", remedy="name a CSV file.") from error


def _refusal(path: Path, line: int, name: str, value: str, remedy: str) -> InputError:
    return InputError(
        f"{path}, line {line}, {name} {value!r} is refused, and with it the file.", remedy=f"{remedy}."
    )
