"""`bentoml build` makes a bento with the service, the domain and the model, and no index address."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bentos.model_store import variables
from tests.serving import Shop, environment

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]


def run(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **environment(shop.settings), **variables(shop.settings)}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_the_bento_is_complete_and_names_no_index(shop: Shop) -> None:
    imported = run(shop, "bentos.import_model")
    assert imported.returncode == 0, imported.stderr
    built = run(shop, "bentoml", "build", "-o", "tag")
    assert built.returncode == 0, built.stderr
    name, version = built.stdout.strip().splitlines()[-1].removeprefix("__tag__:").split(":")
    bento = shop.settings.home_dir / "bentoml" / "bentos" / name / version
    files = {str(path.relative_to(bento / "src")) for path in (bento / "src").rglob("*.py")}
    assert {"bentos/service.py", "retail_core/model/served_model.py"} <= files
    assert {path.split("/")[0] for path in files} == {"bentos", "docker", "retail_core"}
    manifest = (bento / "bento.yaml").read_text()
    assert "purchase_24h" in manifest
    python, docker = bento / "env" / "python", bento / "env" / "docker"
    assert "--hash=" in (python / "requirements.txt").read_text()
    for file in (
        python / "requirements.txt",
        bento / "src" / "requirements-serve.lock",
        docker / "Dockerfile",
    ):
        assert "index-url" not in file.read_text()
        assert "://" not in file.read_text()
    assert "--require-hashes" in (docker / "Dockerfile").read_text()
    assert not (python / "requirements.lock.txt").exists()


def test_without_a_production_model_the_import_says_what_to_do(shop: Shop, tmp_path: Path) -> None:
    empty = Shop(shop.settings.model_copy(update={"home": tmp_path}), shop.log, shop.scores)
    answer = run(empty, "bentos.import_model", "--json")
    assert answer.returncode == 1
    assert "retail train" in answer.stderr
    assert '"remedy"' in answer.stdout
