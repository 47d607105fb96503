"""One engine for all container tests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from retail_core.training.options import TrainOptions
from tests.containers.engine import NO_ENGINE, Podman, not_run, recipe
from tests.home_copies import new_database_name
from tests.serving import Shop, shop_settings, train_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, mongod_uri: str) -> Shop:
    boosted = TrainOptions(policies=("daily",), model="lightgbm")
    settings = shop_settings(tmp_path_factory.mktemp("shop"), mongod_uri, new_database_name())
    return train_shop(settings, boosted)


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Podman]:
    work = tmp_path_factory.mktemp("podman")
    setup = recipe("setup", work)
    if setup.returncode == NO_ENGINE:
        not_run("no container engine", setup.stderr)
    assert setup.returncode == 0, setup.stderr
    try:
        with ThreadPoolExecutor(1) as pool:
            base_image = pool.submit(recipe, "base", work)
            if any("shop" in getattr(test, "fixturenames", ()) for test in request.session.items):
                request.getfixturevalue("shop")
            base = base_image.result()
        assert base.returncode == 0, base.stderr
        probe = recipe("probe", work)
        if probe.returncode != 0:
            not_run("containers do not run on this machine", probe.stderr)
        lean = recipe("lean", work)
        assert lean.returncode == 0, lean.stderr
        yield Podman(work)
    finally:
        recipe("clean", work)
