"""The column `reasons` in files of scores: for the first users of the file, the features behind the score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoff_context import ContextByDay
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.model.served_model import ServedModel
from retail_core.schemas import Pairs

MOST_EXPLAINED = 1_000
"""Default number of users with reasons in a file."""

WORK = 1e9
"""Computing steps allowed for the reasons of one file, a few seconds; see `max_explainable_rows`."""

COLUMN = "reasons"

FeaturesOf = Callable[[pd.DataFrame], pd.DataFrame]
"""From rows with `user_id`, `as_of` and `policy` to the features of at least these users, with `user_id`."""


def with_reasons(
    served: ServedModel, scores: pd.DataFrame, features_of: FeaturesOf, max_explained: int = MOST_EXPLAINED
) -> pd.DataFrame:
    """`scores` with a column `reasons`, which is empty beyond the first `max_explained` rows.

    Args:
        served: the model that gave the scores.
        scores: one row per user, with the columns that `features_of` needs, sorted by rank.
        features_of: returns the feature rows that were scored; called once, with the users to explain.
        max_explained: number of users to explain; fewer where explanations of the model are expensive.
    """
    from retail_core.model.explanations.contributions import max_explainable_rows
    from retail_core.model.explanations.reasons import explain_rows, format_reasons

    top = scores.head(min(max_explained, max_explainable_rows(served.estimator, WORK)))
    texts: list[str] = []
    if len(top):
        feature_set = served.spec.feature_set
        rows = features_of(top).set_index("user_id").loc[top["user_id"], list(feature_set.columns)]
        policies = [served.policy(policy) for policy in top["policy"]]
        values = rows.to_numpy(np.float64)
        explanations = explain_rows(
            served.estimator, feature_set, values, policies, scored=served.as_scored(values)
        )
        texts = [format_reasons(reasons) for reasons in explanations]
    unexplained = [""] * (len(scores) - len(texts))
    return scores.assign(**{COLUMN: pd.Series([*texts, *unexplained], index=scores.index, dtype="str")})


def features_from_lake(
    lake: LakeReader, served: ServedModel, engine: EngineOptions, context: ContextByDay | None = None
) -> FeaturesOf:
    """Function that computes the features of the explained users again, so that the others need no memory.

    Args:
        lake: the events that were scored.
        served: the model.
        engine: runs the query.
        context: as in `compute_features`.
    """

    def features_of(rows: pd.DataFrame) -> pd.DataFrame:
        pairs = rows[["user_id", "as_of", "policy"]].sort_values("user_id", ignore_index=True)
        feature_set = served.spec.feature_set
        return compute_features(lake, DataFrame[Pairs](pairs), feature_set, engine=engine, context=context)

    return features_of
