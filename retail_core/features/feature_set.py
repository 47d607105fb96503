"""The features of one model: which of the list, for which prediction task, with which user attributes.

Separate from the definitions, so that adding a feature touches the list alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from retail_core.errors import InputError
from retail_core.features.definitions import expand_definitions
from retail_core.features.formula_algebra import text_algebra
from retail_core.features.kinds import Derived, Feature
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding


@dataclass(frozen=True)
class FeatureSet:
    """The features of one model and the prediction task they are computed for.

    Attributes:
        task: gives the look-back, the windows and the zone.
        names: features, as `expand_definitions(task)` names them.
        attributes: user attributes whose columns follow the features.
    """

    task: PredictionTask
    names: tuple[str, ...]
    attributes: tuple[AttributeEncoding, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, then of the attributes' columns; the column order of a model's input."""
        return (*self.names, *(column for attribute in self.attributes for column in attribute.columns))

    @property
    def hash(self) -> str:
        """Hash of the definitions used, the task and the columns; 32 hexadecimal characters."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        features = expand_definitions(self.task)
        used = [features.get(name) for name in required_features(self.task, features, self.names)]
        content = {
            **self.to_dict(),
            "definitions": [feature_specification(self.task, feature) for feature in used],
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def plan(self) -> tuple[Feature, ...]:
        """What to compute: the features and all that their formulas use, each before those that use it.

        Raises:
            InputError: a name is not in the list of features (the set may come from another version).
        """
        features = expand_definitions(self.task)
        if unknown := [name for name in self.names if name not in features]:
            raise InputError(
                f"There is no feature {unknown[0]!r} for a look-back of {self.task.lookback_days} days.",
                remedy="take names from docs/features.md, or train a model with this version.",
            )
        return tuple(features[name] for name in required_features(self.task, features, self.names))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; the keys are those of stored model specifications."""
        return {
            "question": self.task.to_dict(),
            "names": list(self.names),
            "attributes": [{**asdict(a), "categories": list(a.categories)} for a in self.attributes],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FeatureSet:
        """Back from `to_dict`; compare the hash before use, the definitions may have changed since."""
        attributes = (
            AttributeEncoding(**{**a, "categories": tuple(a["categories"])}) for a in content["attributes"]
        )
        return cls(PredictionTask(**content["question"]), tuple(content["names"]), tuple(attributes))

    def select(self, columns: Iterable[str]) -> FeatureSet:
        """The set with only these columns, in this set's order.

        Raises:
            InputError: a column is not in the set.
        """
        selected = set(columns)
        if unknown := sorted(selected - set(self.columns)):
            raise InputError(
                f"There is no feature column {unknown[0]!r} in this set.",
                remedy="name columns as docs/features.md lists them.",
            )
        names = tuple(name for name in self.names if name in selected)
        attributes = (_with_selected_categories(attribute, selected) for attribute in self.attributes)
        attributes = (a for a in attributes if selected.intersection(a.columns))
        return FeatureSet(self.task, names, tuple(attributes))


def _with_selected_categories(attribute: AttributeEncoding, columns: set[str]) -> AttributeEncoding:
    categories = (c for c in attribute.categories if f"attr_{attribute.name}={c}" in columns)
    return replace(attribute, categories=tuple(categories))


def default_feature_set(task: PredictionTask, attributes: Iterable[AttributeEncoding] = ()) -> FeatureSet:
    """Every feature of the list and the given attributes."""
    return FeatureSet(task, tuple(expand_definitions(task)), tuple(attributes))


def feature_specification(task: PredictionTask, feature: Feature | None) -> str:
    """One line that says exactly what is computed; features with equal lines are the same.

    The line is part of the hash of a feature set.
    """
    if feature is None:
        return "unknown"
    if isinstance(feature.kind, Derived):
        return f"{feature.name} = {_formula_text(task, feature)[0]}"
    return f"{feature.name} = {feature.kind!r} over {feature.window.label if feature.window else 'look-back'}"


def required_features(
    task: PredictionTask, features: Mapping[str, Feature], names: Iterable[str]
) -> tuple[str, ...]:
    """`names` and everything their formulas use, each name once, before those that use it."""
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in features:
            for used in used_features(task, features[name]):
                visit(used)
        ordered.setdefault(name)

    for name in names:
        visit(name)
    return tuple(ordered)


def used_features(task: PredictionTask, feature: Feature) -> tuple[str, ...]:
    """Names of the features that a derived feature uses; none for the other kinds."""
    return _formula_text(task, feature)[1]


@lru_cache(maxsize=4096)
def _formula_text(task: PredictionTask, feature: Feature) -> tuple[str, tuple[str, ...]]:
    """The formula of a derived feature as text, and the features it uses."""
    if not isinstance(feature.kind, Derived):
        return "", ()
    used: list[str] = []
    text = str(feature.kind.formula(text_algebra(used, task.windows)))
    return text, tuple(dict.fromkeys(used))
