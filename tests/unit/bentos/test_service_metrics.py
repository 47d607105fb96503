"""What the service counts, read as Prometheus reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from bentos.exposition import exposition
from bentos.service_metrics import ServiceMetrics

MULTIPROCESS = """
from bentos.exposition import exposition
from bentos.service_metrics import ServiceMetrics
metrics = ServiceMetrics()
metrics.record_request("/predict", 200, 0.004)
metrics.record_problem("not-json")
print(exposition(metrics.families(), "")[0].decode())
"""


def samples(metrics: ServiceMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition(metrics.families(), "")[0].decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_route_status_and_duration() -> None:
    metrics = ServiceMetrics()
    for seconds in (0.0005, 0.004, 60.0):
        metrics.record_request("/predict", 200, seconds)
    labels = (("route", "/predict"), ("status", "200"))
    read = samples(metrics)
    buckets = {
        dict(label_pairs)["le"]: value
        for (name, label_pairs), value in read.items()
        if name == "retail_request_seconds_bucket"
    }
    assert (buckets["0.0005"], buckets["0.003"], buckets["0.005"], buckets["30.0"]) == (1, 1, 2, 2)
    assert buckets["+Inf"] == read["retail_request_seconds_count", labels] == 3
    assert read["retail_request_seconds_sum", labels] == 60.0045


def test_predictions_probabilities_and_nulls_are_counted_by_version() -> None:
    metrics = ServiceMetrics()
    features = np.array([[1.0, np.nan], [np.nan, np.nan], [0.0, 1.0]])
    for _ in range(2):
        metrics.record_scored("7", "daily", ("a", "b"), features, np.array([0.01, 0.2, 1.0]))
    read, version = samples(metrics), ("version", "7")
    assert read["retail_predictions_total", (("policy", "daily"), version)] == 6
    assert read["retail_feature_rows_total", (version,)] == 6
    assert read["retail_feature_nulls_total", (("feature", "a"), version)] == 2
    assert read["retail_feature_nulls_total", (("feature", "b"), version)] == 4
    assert read["retail_probability_bucket", (("le", "0.2"), version)] == 4
    assert read["retail_probability_count", (version,)] == 6


def test_counters_and_gauges_have_the_value_of_the_moment() -> None:
    metrics, waiting = ServiceMetrics(), [0]
    metrics.register_gauge("retail_waiting", "Waiting", lambda: len(waiting))
    assert samples(metrics)["retail_waiting", ()] == 1
    waiting.append(1)
    metrics.record_missing_context()
    metrics.record_reload("refused")
    metrics.record_problem('a "quoted"\nkind')
    read = samples(metrics)
    assert (read["retail_waiting", ()], read["retail_without_context_total", ()]) == (2, 1)
    assert read["retail_reloads_total", (("outcome", "refused"),)] == 1
    assert read["retail_problems_total", (("kind", 'a "quoted"\nkind'),)] == 1


def test_nothing_is_written_to_the_files_that_bentoml_sums_over_processes(tmp_path: Path) -> None:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", MULTIPROCESS], env=environment, capture_output=True, text=True, check=True
    )
    assert 'retail_problems_total{kind="not-json"} 1.0' in done.stdout
    assert not list(tmp_path.iterdir())
