"""python preload.py PART: import the modules of one part of the stack, so that its image has them compiled.

A module that is missing, or that slim.py removed by mistake, fails the build of the image.
"""

from __future__ import annotations

import sys
from importlib import import_module

SERVICE = (
    "bentos.service",
    "bentos.batch",
    "retail_core.scoring.uploaded_files",
    "retail_core.scoring.shop_context",
    "retail_core.model.boosting",
    "retail_core.model.estimator",
    "retail_core.model.explanations.contributions",
    "retail_core.model.linear",
    "retail_core.model.onnx_scorers",
    "retail_core.model.explanations.reasons",
    # Imported lazily, when a stored model or a file of events is read.
    "ibis.backends.duckdb",
    "lightgbm",
    "skops.io",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "apprise",
    # BentoML's processes.
    "_bentoml_impl.server.app",
    "_bentoml_impl.server.serving",
    "_bentoml_impl.worker.service",
    "bentoml_cli.cli",
)
STACK = (
    *SERVICE,
    "bentos.import_model",
    "bentoml.mlflow",
    "flows.automations",
    "flows.backfill",
    "flows.ingest",
    "flows.monitor",
    "flows.recalibrate",
    "flows.retrain",
    "flows.rollback",
    "flows.score",
    "mlflow.cli",
    "mlflow.server.fastapi_app",
    "mlflow.store.tracking.sqlalchemy_store",
    "asyncpg",
    "prefect.cli.server",
    "prefect.cli.worker",
    "prefect.server.api.server",
    "prefect.workers.process",
    "retail_core.cli",
    "streamlit.web.bootstrap",
)
PARTS = {"service": SERVICE, "stack": STACK}

if __name__ == "__main__":
    for module in PARTS[sys.argv[1]]:
        import_module(module)
