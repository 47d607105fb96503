"""Engine options from the settings, and the error messages where Spark cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retail_core.features.engine import EngineOptions
from retail_core.features.engine.spark_engine import java_memory
from retail_core.settings import Settings

OPEN_SPARK = """
from retail_core.errors import DependencyError
from retail_core.features.engine import EngineOptions, open_engine
try:
    with open_engine(EngineOptions("spark")):
        pass
except DependencyError as error:
    print(error.exit_code, error)
"""


def test_engine_options_come_from_the_settings() -> None:
    assert EngineOptions.from_settings(Settings()) == EngineOptions()
    settings = Settings(engine="spark", spark_master="spark://host:7077", memory_limit="512MB")
    assert EngineOptions.from_settings(settings) == EngineOptions(
        "spark", "512MB", spark_master="spark://host:7077"
    )


@pytest.mark.parametrize(("limit", "java"), [("3GB", "3g"), ("512 MiB", "512m"), ("80%", "2g")])
def test_memory_limit_in_javas_notation(limit: str, java: str) -> None:
    assert java_memory(limit) == java


def test_without_java_one_line_names_the_remedy(tmp_path: Path) -> None:
    """A JAVA_HOME without a Java in it, as left behind by an upgrade."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_SPARK],
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("3 Spark cannot be started on local[2]:")
    assert "install a Java 17" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert "java" not in done.stderr


def test_without_pyspark_one_line_names_the_extra() -> None:
    blocked = "import sys; sys.modules['pyspark'] = None\n" + OPEN_SPARK
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("3 RETAIL_ENGINE=spark needs PySpark")
    assert "[spark]" in done.stdout
