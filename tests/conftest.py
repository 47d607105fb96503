"""Fixtures every test may use: a settings object with a home of its own, and a store on one real mongod."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def mongod_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Settings(home=tmp_path_factory.mktemp("mongod"))
    yield ensure_mongod(server)
    stop_mongod(server)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path, mongod_uri: str) -> Settings:
    """A home of its own and a database of its own on the session's mongod."""
    return Settings(home=home, mongodb_uri=mongod_uri, mongodb_database=f"retail_{uuid.uuid4().hex[:12]}")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings) as opened:
        yield opened
        opened.client.drop_database(settings.mongodb_database)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real logs; where they are not, the test says aloud that it did not run."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real logs at {SHARED_DATA}")
    return SHARED_DATA
