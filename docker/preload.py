"""python preload.py PART: imports what a part imports, so that Python compiles just that, once, in its image.

A name that is missing or was taken out too much ends the build of the image.
"""

from __future__ import annotations

import sys
from importlib import import_module

SERVICE = (
    "bentos.service",
    "bentos.batch",
    "bentos.batch_files",
    "retail_core.scoring.shop_context",
    "retail_core.model.boosting",
    "retail_core.model.estimator",
    "retail_core.model.explanations.contributions",
    "retail_core.model.linear",
    "retail_core.model.realtime",
    "retail_core.model.explanations.reasons",
    # What a stored model and a file of events need when they are read.
    "ibis.backends.duckdb",
    "lightgbm",
    "skops.io",
    "sklearn.ensemble",
    "sklearn.linear_model",
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
    "flows.ingest",
    "flows.retrain",
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
