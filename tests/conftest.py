"""Fixtures every test may use: settings with a home of their own, a store, and prepared homes to copy.

The workers of a parallel run share one `mongod` and the prepared homes. Modules that are imported for few
tests are imported by the fixtures, so that a run of unit tests starts quickly.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.examples import examples
from tests.home_copies import copy_home, copy_registry, drop_database, new_database_name
from tests.run_folder import fill_once, shared_run_folder

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from tests.serving import Service, Shop

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

LONGEST_FIRST = (
    "tests/integration/test_fault_texts.py",
    "tests/e2e/test_own_services.py",
    "tests/integration/test_prefect_deploy.py",
    "tests/integration/test_fault_texts.py",
    "tests/integration/test_swap.py",
    "tests/integration/test_erasure_scan.py",
    "tests/integration/test_service.py",
    "tests/integration/test_job_service.py",
    "tests/integration/test_damaged_records.py",
    "tests/simulation/test_shop_days.py",
    "tests/integration/test_leakage.py",
    "tests/integration/test_training.py",
    "tests/property/test_engines.py",
    "tests/integration/test_lifecycle.py",
    "tests/integration/test_contract.py",
    "tests/realdata/test_leakage_real.py",
    "tests/realdata/test_features_real.py",
    "tests/realdata/test_served_real.py",
    "tests/integration/test_backup.py",
    "tests/integration/test_training_kills.py",
    "tests/integration/test_promotion_kills.py",
    "tests/integration/test_list_cutoff.py",
    "tests/integration/test_mongodb_access.py",
    "tests/integration/test_lake.py",
    "tests/integration/test_reproduction.py",
    "tests/integration/test_mapped_upload.py",
    "tests/e2e/test_app.py",
    "tests/integration/test_stack.py",
    "tests/integration/test_replicas.py",
    "tests/integration/test_undo.py",
)
"""Modules that take longest. They start first, so that all workers of a parallel run end at the same time."""

GROUPS = {
    "tests/integration/test_flows.py": "tests/integration/test_prefect_deploy.py",
    "tests/integration/test_spark_scoring.py": "tests/property/test_engines.py",
    "tests/integration/test_request_forgery.py": "tests/integration/test_contract.py",
    "tests/integration/test_doctor.py": "tests/integration/test_contract.py",
}
"""Modules that run on the worker of another module, because they share its server or its Spark session."""

hypothesis.settings.register_profile("project", max_examples=examples(50), deadline=None)
hypothesis.settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    """Do not warn of the damaged coverage file of a process that was killed while it ended."""
    if config.pluginmanager.hasplugin("_cov"):
        from coverage.exceptions import CoverageWarning

        # pytest-cov adds the first filter only where there is none of this category.
        warnings.simplefilter("once", CoverageWarning)
        warnings.filterwarnings("ignore", "Couldn't use data file", CoverageWarning)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest modules first; the order is random otherwise.

    A test that uses the run's `mongod` is an integration test wherever it lies.
    """
    for item in items:
        if "mongod_uri" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.integration)
    items.sort(key=lambda item: _start_rank(_group(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep each group of modules on one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return GroupScheduling(config, log)


def _group(nodeid: str) -> str:
    module = nodeid.split("::", maxsplit=1)[0]
    return GROUPS.get(module, module)


def _start_rank(group: str) -> int:
    return LONGEST_FIRST.index(group) if group in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session")
def mongod_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The run's one `mongod`; the last worker that used it stops it."""
    folder = shared_run_folder(tmp_path_factory)
    server = Settings(home=folder / "mongod")
    users = folder / "mongod-users"
    lock = FileLock(f"{users}.lock")
    with lock:
        users.mkdir(exist_ok=True)
        (users / str(os.getpid())).touch()
        uri = ensure_mongod(server)
    yield uri
    with lock:
        (users / str(os.getpid())).unlink()
        if not any(users.iterdir()):
            stop_mongod(server)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path, mongod_uri: str) -> Settings:
    """A home of its own and a database of its own on the run's `mongod`."""
    return Settings(home=home, mongodb_uri=mongod_uri, mongodb_database=new_database_name())


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings) as opened:
        yield opened
        opened.client.drop_database(settings.mongodb_database)


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with MLflow's tables and nothing registered: creating them takes seconds."""
    from retail_core.registry.versions import production_version

    folder = shared_run_folder(tmp_path_factory) / "empty-registry"
    settings = Settings(home=folder / "home")
    fill_once(folder, lambda _: production_version(settings))
    return settings


@pytest.fixture(scope="session")
def trained_template(
    tmp_path_factory: pytest.TempPathFactory, mongod_uri: str, empty_registry: Settings
) -> Shop:
    """The run's one shop with a trained model; tests use copies of it."""
    from tests.serving import read_shop, shop_settings, train_shop

    folder = shared_run_folder(tmp_path_factory) / "trained-shop"
    settings = shop_settings(folder, mongod_uri, "trained_shop")

    def fill(_: Path) -> None:
        copy_registry(empty_registry, settings.home_dir)
        train_shop(settings)

    fill_once(folder, fill)
    return read_shop(settings)


@pytest.fixture(scope="module")
def shop(trained_template: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with a trained model that the module's tests may change."""
    copy = trained_template.copy(tmp_path_factory.mktemp("shop") / "home")
    yield copy
    drop_database(copy.settings)


@pytest.fixture(scope="session")
def registered_template(
    tmp_path_factory: pytest.TempPathFactory, mongod_uri: str, empty_registry: Settings
) -> Settings:
    """The run's one home with a registered model and without events; tests use copies of it."""
    from tests.serving import register_shop

    folder = shared_run_folder(tmp_path_factory) / "registered-shop"
    settings = Settings(
        home=folder / "home", mongodb_uri=mongod_uri, mongodb_database="registered_shop", standby=False
    )

    def fill(_: Path) -> None:
        copy_registry(empty_registry, settings.home_dir)
        register_shop(settings)

    fill_once(folder, fill)
    return settings


@pytest.fixture(scope="module")
def registered(registered_template: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home with a registered model and without events that the module's tests may change."""
    copy = copy_home(registered_template, tmp_path_factory.mktemp("registered") / "home")
    yield copy
    drop_database(copy)


@pytest.fixture(scope="session")
def registered_service(
    registered_template: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One service over a registered model for the tests that change nothing which another test reads."""
    from tests.serving import Service, running_service

    folder = tmp_path_factory.mktemp("registered-service")
    settings = copy_home(registered_template, folder / "home").model_copy(update={"log_format": "json"})
    log = folder / "api.log"
    with running_service(settings, log, is_measured=True) as client:
        yield Service(settings.model_copy(update={"api_port": client.base_url.port}), client, log)
    drop_database(settings)


@pytest.fixture(scope="session")
def spark_session() -> Iterator[None]:
    """End the process's Spark session, which the first query starts, after the last test."""
    yield
    from pyspark.sql import SparkSession

    if active := SparkSession.getActiveSession():
        active.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real logs; where they are not, the test says aloud that it did not run."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real logs at {SHARED_DATA}")
    return SHARED_DATA
