"""All that determines a training besides the rows it reads, as it is stored with a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from retail_core.model.procedure import RecallGoal
from retail_core.settings import Settings
from retail_core.times import iso, parse_instant
from retail_core.training.options import TrainOptions

SETTINGS = ("seed", "search_rows", "fit_rows", "min_buyers", "engine")
"""Settings that change the result of a training; those of the prediction task are in the feature set."""


@dataclass(frozen=True)
class TrainingRequest:
    """What was asked for.

    Attributes:
        as_of: cut-off asked for, UTC; the log may end before it.
        options: with the policies that were used.
        settings: values of `SETTINGS`.
    """

    as_of: datetime
    options: TrainOptions
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, as_of: datetime, options: TrainOptions, settings: Settings) -> TrainingRequest:
        """The request with the values that `settings` have."""
        return cls(as_of, options, {name: getattr(settings, name) for name in SETTINGS})

    @property
    def goal(self) -> RecallGoal:
        """The recall that `contact` must reach."""
        options = self.options
        return RecallGoal(
            options.target_recall, options.confidence, self.settings["seed"], options.must_certify
        )

    def apply_to(self, settings: Settings) -> Settings:
        """`settings` with the values of the request."""
        return settings.model_copy(update=dict(self.settings))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as stored with a version."""
        options = asdict(self.options)
        lists = {name: list(options[name]) for name in ("policies", "allow_leak")}
        return {"as_of": iso(self.as_of), "options": options | lists, "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingRequest:
        """Inverse of `to_dict`; values that this release does not know are left out."""
        names = {field.name for field in fields(TrainOptions)}
        options = {name: value for name, value in content["options"].items() if name in names}
        tuples = {name: tuple(options[name]) for name in ("policies", "allow_leak")}
        settings = {name: value for name, value in content["settings"].items() if name in SETTINGS}
        return cls(parse_instant(content["as_of"]), TrainOptions(**(options | tuples)), settings)
