"""SQLAlchemy opens the file that is meant, whatever its path contains, by both of its SQLite drivers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from retail_core.sqlite_addresses import sqlite_url

FOLDERS = ("plain", "with blank", "50% off", "%20", "why?", "#1 & more;", "ü'\"*[a-b]{z}", "a?uri=false")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_the_file_is_created_where_it_is_meant_to_be(tmp_path: Path, folder: str, driver: str) -> None:
    file = tmp_path / folder / "mlflow.db"
    file.parent.mkdir()
    url = sqlite_url(file, driver)

    async def create() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE t (a)"))
        await engine.dispose()

    if driver == "sqlite":
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (a)"))
        engine.dispose()
    else:
        asyncio.run(create())
    assert file.stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [folder]
