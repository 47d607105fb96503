"""`python -m bentos.shadow_model`: copy the files of a version that shadows from MLflow, for the API.

They are kept apart from BentoML's store, whose newest model is the one that the API starts with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from bentos.model_store import variables
from retail_core.errors import RetailError
from retail_core.file_locks import create_private_folder, exclusive_lock
from retail_core.settings import Settings, load_settings

FOLDER = "shadow-models"


def copy_version(settings: Settings, version: str) -> Path:
    """The folder with the files of a version, copied unless it is there; those of others are removed.

    Raises:
        DataError: there is no such version.
        IntegrityError: its files are not those that were registered.
        DependencyError: MLflow is unreachable.
    """
    from retail_core.registry.versions import download

    parent = Path(variables(settings)["BENTOML_HOME"]) / FOLDER
    create_private_folder(parent)
    target, part = parent / version, parent / f".{version}.part"
    with exclusive_lock(parent / "copy.lock"):
        for other in parent.iterdir():
            if other.is_dir() and other != target:
                shutil.rmtree(other)
        if not target.exists():
            shutil.copytree(download(settings, version), part)
            part.rename(target)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints the folder, as one JSON line with --json. Exit codes as those of `retail`."""
    parser = argparse.ArgumentParser(
        prog="python -m bentos.shadow_model",
        description="Copy the files of a version that shadows from MLflow.",
        epilog="example: python -m bentos.shadow_model 4 --json",
    )
    parser.add_argument("version", help="the registered version")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    options = parser.parse_args(arguments)
    try:
        folder = str(copy_version(load_settings(), options.version))
    except RetailError as error:
        print(error, file=sys.stderr)  # noqa: T201
        if options.json:
            print(json.dumps({"error": error.message, "remedy": error.remedy}))  # noqa: T201
        return error.exit_code
    print(json.dumps({"folder": folder}) if options.json else folder)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
