"""Names of settings in the environment; settings files: where they are, and their keys and values.

Separate from the settings, which take values from the environment too.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from retail_core.errors import InputError

CONFIG_FILE = "retail.toml"
CONFIG_VARIABLE = "RETAIL_CONFIG"
"""Path of a settings file that is read instead of the two usual ones; empty: none is read."""

_UNPREFIXED = ("mlflow_tracking_uri", "prefect_api_url", "bentoml_home")
"""Settings whose variables are those of MLflow, Prefect and BentoML themselves."""


def variable_name(name: str) -> str:
    """Environment variable of a setting.

    Examples:
        >>> variable_name("horizon_hours"), variable_name("mlflow_tracking_uri")
        ('RETAIL_HORIZON_HOURS', 'MLFLOW_TRACKING_URI')
    """
    return name.upper() if name in _UNPREFIXED else f"RETAIL_{name.upper()}"


def config_files(default_home: Path) -> list[Path]:
    """Settings files that exist, the one that takes precedence first.

    Args:
        default_home: the home where neither the environment nor the local file names one.
    """
    explicit = os.environ.get(CONFIG_VARIABLE)
    if explicit is not None:
        return [Path(explicit).expanduser().absolute()] if explicit else []
    local = Path(CONFIG_FILE).absolute()
    files = [local] if local.is_file() else []
    home = os.environ.get("RETAIL_HOME") or (_parse(local).get("home") if files else None)
    in_home = Path(str(home or default_home)).expanduser().absolute() / CONFIG_FILE
    return [*files, in_home] if in_home.is_file() and in_home != local else files


def read_config(file: Path, names: Collection[str]) -> Mapping[str, Any]:
    """Keys and values of a settings file; lists become comma-separated text.

    Args:
        file: the settings file.
        names: the settings there are.

    Raises:
        InputError: it cannot be read, is not TOML, or has a key that is not a setting.
    """
    content = _parse(file)
    for name, value in content.items():
        if name not in names:
            similar = difflib.get_close_matches(name, names, n=1)
            hint = f"write {similar[0]}" if similar else "remove it"
            raise InputError(
                f"{file} has the key {name!r}, which is not a setting.",
                remedy=f"{hint}; `retail config` lists the settings.",
            )
        if isinstance(value, dict):
            raise InputError(
                f"{name} in {file} is a table.",
                remedy="write every setting as `name = value`, without tables.",
            )
    return {name: ",".join(map(str, v)) if isinstance(v, list) else v for name, v in content.items()}


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}.", remedy="correct or remove the file.") from error
