"""The guard on a file: a raw log of a source, read into a lake of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from retail_core.errors import DataError
from retail_core.features.batch.attributes import infer_attributes
from retail_core.features.batch.engine import EngineOptions
from retail_core.features.cutoffs.sessions import default_policies
from retail_core.features.definitions import default_feature_set
from retail_core.features.question import Question
from retail_core.model import dataset
from retail_core.model.labelled import labelled_rows, refuse_too_little
from retail_core.model.leakage.evidence import ROWS, Evidence
from retail_core.model.leakage.guard import inspect
from retail_core.model.leakage.report import LeakageReport
from retail_core.model.sampling import plan_sampling
from retail_core.settings import Settings
from retail_core.sources.read import read_events
from retail_core.sources.source import Source
from retail_core.store.lake.scratch import scratch_lake
from retail_core.store.lake.table import Lake
from retail_core.times import last_midnight


def inspect_log(path: Path, source: Source, settings: Settings, allowed: Sequence[str] = ()) -> LeakageReport:
    """Judge the rows that a training on this file alone would have, by the source's cut-off policy.

    Args:
        path: raw file.
        source: its dialect.
        settings: the question, the seed, and the shop's zone if not the source's.
        allowed: as for `inspect`.

    Raises:
        InputError: the file cannot be read.
        DataError: it has no events, or too few purchases.
    """
    zone = settings.timezone or source.timezone
    with tempfile.TemporaryDirectory(prefix="retail-leakage-") as folder:
        lake = scratch_lake(read_events(path, source), Path(folder))
        newest = lake.state().last_event
        if newest is None:
            raise DataError(f"{path} has no usable event.", remedy="choose the source the file is from.")
        question = Question.from_settings(settings, zone)
        as_of, engine = last_midnight(newest, zone), EngineOptions.from_settings(settings)
        policies = default_policies(lake, source.policy, as_of, engine)
        return inspect(gather(lake, question, policies, as_of, settings), allowed)


def gather(
    lake: Lake, question: Question, policies: Sequence[str], as_of: datetime, settings: Settings
) -> Evidence:
    """Labelled rows of the policies, and features of a sample of them.

    Raises:
        DataError: too few purchases.
    """
    engine = EngineOptions.from_settings(settings)
    labelled = labelled_rows(lake, question, policies, as_of, engine).rows
    refuse_too_little(labelled, settings.min_buyers)
    sampling = plan_sampling(labelled["label"].to_numpy(bool), ROWS * len(policies))
    rows = labelled[sampling.keep(labelled, settings.seed)].reset_index(drop=True)
    undated = set(rows["policy"]) == {"first-visit"}
    wanted = default_feature_set(question, infer_attributes(lake, as_of, include_undated=undated))
    matrix = dataset.features(lake, rows, wanted, engine)
    return Evidence(rows, matrix, wanted, sampling, labelled, lake, as_of, settings.seed)
