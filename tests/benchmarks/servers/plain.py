"""The same model as a plain FastAPI application, and as a plain BentoML API; `MODEL` names its folder."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from retail_core.model.served_model import ServedModel, load_served_model


class Question(BaseModel):
    user_id: str
    features: dict[str, float | None]


class Answer(BaseModel):
    user_id: str
    probability: float
    will_purchase: bool
    contact: bool
    model_version: str


def loaded() -> ServedModel:
    return load_served_model(Path(os.environ["MODEL"]), "1")


def answered(model: ServedModel, user_id: str, features: dict[str, float | None]) -> Answer:
    row = [[features.get(name) for name in model.spec.feature_set.columns]]
    scored = model.predict_rows(np.array(row, dtype=np.float64), model.spec.primary)
    return Answer(
        user_id=user_id,
        probability=float(scored.probability[0]),
        will_purchase=bool(scored.will_purchase[0]),
        contact=bool(scored.contact[0]),
        model_version=model.spec.version,
    )


def fastapi_app() -> FastAPI:
    """For `uvicorn --factory`."""
    app, model = FastAPI(), loaded()

    @app.post("/predict")
    async def predict(question: Question) -> Answer:
        return answered(model, question.user_id, question.features)

    return app


@bentoml.service(workers=1)
class PlainBento:
    """What BentoML's tutorial makes of it."""

    def __init__(self) -> None:
        self.model = loaded()

    @bentoml.api
    def predict(self, user_id: str, features: dict[str, float | None]) -> Answer:
        return answered(self.model, user_id, features)
