"""Addresses of SQLite files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote


def sqlite_url(file: Path, driver: str = "sqlite") -> str:
    """URL of a SQLite file for SQLAlchemy, which takes what follows a `?` as options and decodes nothing.

    Releases of SQLAlchemy differ in whether they decode `%..`; SQLite does in a `file:` address.

    >>> sqlite_url(Path("/srv/retail home/mlflow.db"))
    'sqlite:////srv/retail home/mlflow.db'
    >>> sqlite_url(Path("/srv/50% off?/mlflow.db"))
    'sqlite:///file:/srv/50%25%20off%3F/mlflow.db?uri=true'
    """
    path = str(file)
    return f"{driver}:///file:{quote(path)}?uri=true" if {"?", "%"} & set(path) else f"{driver}:///{path}"
