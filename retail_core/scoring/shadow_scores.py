"""Predictions of shadows for the list that the champion scores, from the same features where they agree.

They are stored in `shadow_predictions`, which no list reads. Whatever fails here is logged and leaves the
champion's list as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self, cast

import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import RetailError
from retail_core.features.engine import LakeReader
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.registry.shadow_record import running_shadows
from retail_core.registry.versions import load_version
from retail_core.schemas import Prediction
from retail_core.scoring.list_predictions import predict_eligible, predict_features, rank_predictions
from retail_core.store.mongo.predictions import replace_shadow_predictions
from retail_core.times import to_utc_ms
from retail_core.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass
class ShadowScorer:
    """Scores a list with the champion's shadows while the champion scores it.

    Attributes:
        workspace: where the predictions are stored.
        champion: specification of the version that scores the list.
        models: the shadows.
    """

    workspace: Workspace
    champion: ModelSpec
    models: list[ServedModel] = field(default_factory=list)
    _chunks: dict[str, list[pd.DataFrame]] = field(default_factory=dict)

    @classmethod
    def of_champion(cls, workspace: Workspace, champion: ModelSpec) -> Self:
        """The scorer of the shadows of the version in production; other versions have none."""
        scorer = cls(workspace, champion)
        with _failures_logged("the shadows cannot be read"):
            shadows = running_shadows(workspace.store)
            versions = [shadow.version for shadow in shadows if shadow.champion == champion.version]
            for version in versions:
                with _failures_logged(f"version {version} cannot be loaded"):
                    scorer.models.append(load_version(workspace.settings, version))
        return scorer

    def score(self, features: pd.DataFrame) -> None:
        """Score a batch of the champion's features with each shadow that has the same features."""
        scored = []
        for model in self.models:
            with _failures_logged(f"version {model.spec.version} cannot score"):
                if model.spec.feature_set.hash == self.champion.feature_set.hash:
                    chunk = predict_features(model, features)
                    self._chunks.setdefault(model.spec.version, []).append(chunk)
                scored.append(model)
        self.models = scored

    def store(self, lake: LakeReader, as_of: datetime) -> list[str]:
        """Store the predictions of each shadow and return their versions.

        Args:
            lake: the events, for shadows with features of their own.
            as_of: the cut-off of the list, UTC.
        """
        stored = []
        for model in self.models:
            with _failures_logged(f"the predictions of version {model.spec.version} are not stored"):
                self._store(model, lake, as_of)
                stored.append(model.spec.version)
        return stored

    def _store(self, model: ServedModel, lake: LakeReader, as_of: datetime) -> None:
        chunks = self._chunks.get(model.spec.version)
        if chunks is None:
            predictions = predict_eligible(lake, model, as_of, self.workspace.engine)
        else:
            predictions = rank_predictions(chunks)
        for instant, window in predictions.groupby("as_of", sort=True):
            cutoff = to_utc_ms(cast("pd.Timestamp", instant).to_pydatetime())
            rows = cast("DataFrame[Prediction]", window)
            replace_shadow_predictions(
                self.workspace.store, rows, as_of=cutoff, model_version=model.spec.version
            )


@contextmanager
def _failures_logged(message: str) -> Iterator[None]:
    """Log what the block raises and go on: a shadow never prevents the champion's list."""
    try:
        yield
    except RetailError as error:
        log.warning("Shadow scoring: %s: %s", message, error)
    except Exception:
        log.exception("Shadow scoring: %s", message)
