"""Reasons beside scores in files: of the users at the top, as many as can be afforded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.model.served_model import ServedModel
from retail_core.schemas import Pairs

MOST_EXPLAINED = 1_000
"""Users with reasons in a file where nobody says how many."""

WORK = 1e9
"""Steps spent on the reasons of one file, a few seconds; see `explain.affordable_rows`."""

COLUMN = "reasons"

FeaturesOf = Callable[[pd.DataFrame], pd.DataFrame]
"""From rows with `user_id`, `as_of` and `policy` to the features of at least these users, by `user_id`."""


def with_reasons(
    served: ServedModel, scores: pd.DataFrame, features_of: FeaturesOf, most: int = MOST_EXPLAINED
) -> pd.DataFrame:
    """`scores` with a column `reasons`, which is empty beyond the first `most` rows.

    Args:
        served: the model that gave the scores.
        scores: one row a user, with what `features_of` needs; those to explain first.
        features_of: gives the rows that were scored; asked once, for the users explained.
        most: users to explain; fewer where the model is dear to explain.
    """
    from retail_core.model.explanations.contributions import max_explainable_rows
    from retail_core.model.explanations.reasons import explain_rows, format_reasons

    top = scores.head(min(most, max_explainable_rows(served.estimator, WORK)))
    found: list[str] = []
    if len(top):
        feature_set = served.spec.feature_set
        rows = features_of(top).set_index("user_id").loc[top["user_id"], list(feature_set.columns)]
        policies = [served.policy(policy) for policy in top["policy"]]
        told = explain_rows(served.estimator, feature_set, rows.to_numpy(np.float64), policies)
        found = [format_reasons(one) for one in told]
    rest = [""] * (len(scores) - len(found))
    return scores.assign(**{COLUMN: pd.Series([*found, *rest], index=scores.index, dtype="str")})


def from_lake(lake: LakeReader, served: ServedModel, engine: EngineOptions) -> FeaturesOf:
    """Features computed again for the few that are explained: cheaper than keeping those of all."""

    def features_of(rows: pd.DataFrame) -> pd.DataFrame:
        pairs = rows[["user_id", "as_of", "policy"]].sort_values("user_id", ignore_index=True)
        return compute_features(lake, DataFrame[Pairs](pairs), served.spec.feature_set, engine=engine)

    return features_of
