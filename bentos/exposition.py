"""The content of `/metrics`: our metric families and those that BentoML's processes have written."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Set by BentoML: the folder of the files of its processes."""

_HISTOGRAM_ORDER = ("_bucket", "_count", "_sum")


class _Families(Collector):
    """Families that were collected before."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from self._families


def exposition(own_families: Sequence[Metric], accepted: str) -> tuple[bytes, str]:
    """All metrics and their media type; reads files, so that it belongs in a thread.

    Args:
        own_families: ours.
        accepted: the request's header `Accept`, which chooses between Prometheus' text and OpenMetrics.
    """
    encode, media_type = choose_encoder(accepted)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([*_bentoml_families(), *own_families]))
    return encode(registry), media_type


def _bentoml_families() -> Iterator[Metric]:
    """BentoML's families; the samples of a histogram in the order that OpenMetrics requires."""
    if FOLDER_VARIABLE not in os.environ:
        return
    families: Iterable[Metric] = MultiProcessCollector(CollectorRegistry()).collect()  # type: ignore[no-untyped-call]
    for family in families:
        if family.type == "histogram":
            family.samples.sort(key=_histogram_position)
        yield family


def _histogram_position(sample: Sample) -> tuple[list[tuple[str, str]], int, float]:
    labels = sorted((name, value) for name, value in sample.labels.items() if name != "le")
    part = next(position for position, suffix in enumerate(_HISTOGRAM_ORDER) if sample.name.endswith(suffix))
    return labels, part, float(sample.labels.get("le", math.inf))
