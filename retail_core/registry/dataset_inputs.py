"""The tables of the lake that a version was trained on, as inputs of its MLflow run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retail_core.model.spec import ModelSpec
from retail_core.settings import Settings


@dataclass(frozen=True)
class DatasetInput:
    """One Delta table.

    Attributes:
        name: of the table.
        digest: hash of its rows; of the events the data hash of the training.
        path: URL of the table; relative to the home where the lake is below it.
        version: Delta version.
        profile: figures about the rows, plain JSON values.
    """

    name: str
    digest: str
    path: str
    version: int
    profile: dict[str, Any]


def dataset_inputs(spec: ModelSpec, settings: Settings) -> list[DatasetInput]:
    """The inputs of a version; none for one whose tables were not recorded."""
    from retail_core.store.lake.location import LakeLocation

    # No absolute path of a home is stored, since homes are copied and restored elsewhere; a URL without its
    # credentials.
    root = LakeLocation(settings.lake).url_of("").rstrip("/") if settings.lake else "lake"
    return [
        DatasetInput(
            name=name,
            digest=spec.data["data_hash"] if name == "events" else table["digest"],
            path=f"{root}/{name}",
            version=table["version"],
            profile={"rows": table["rows"]} | (_training_profile(spec) if name == "events" else {}),
        )
        for name, table in spec.data.get("tables", {}).items()
    ]


def _training_profile(spec: ModelSpec) -> dict[str, Any]:
    eligible = spec.training["eligible"]
    return {
        "rows_before_as_of": spec.data["events"],
        "as_of": spec.data["as_of"],
        "last_event": spec.data["last_event"],
        "labelled_rows": spec.data["rows"],
        "users": eligible["users"],
        "rows_with_purchase": eligible["positives"],
        "first_cutoff": eligible["first_cutoff"],
        "last_cutoff": eligible["last_cutoff"],
    }
