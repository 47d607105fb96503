"""What BentoML must find in the environment before it is first imported."""

from __future__ import annotations

import os
from pathlib import Path

from retail_core.settings import Settings

MODEL_VARIABLE = "RETAIL_BENTO_MODEL"
ROOT = Path(__file__).resolve().parents[1]


def variables(settings: Settings) -> dict[str, str]:
    """BentoML's store below `home` unless BENTOML_HOME is set, no usage reports, one meaning of `home`."""
    return {
        "BENTOML_HOME": os.environ.get("BENTOML_HOME") or str(settings.home_dir / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "RETAIL_HOME": str(settings.home_dir),
    }


def prepare(settings: Settings) -> None:
    """Put `variables` into this process and make BentoML's home."""
    os.environ.update(variables(settings))
    Path(os.environ["BENTOML_HOME"]).mkdir(parents=True, exist_ok=True)
