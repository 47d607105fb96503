"""Stages of a training that a repetition of it shares: reading the rows, evaluating, refitting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.labelled import build_labelled_rows
from retail_core.model.procedure import RecallGoal
from retail_core.model.search import SearchResult
from retail_core.settings import Settings
from retail_core.training.results import TrainingResult, evaluate_test_rows
from retail_core.training.training_request import TrainingRequest

Progress = Callable[[str, int, int], None]
"""Called with a stage of `pipeline.STAGES`, the steps done and the steps in total."""


@contextmanager
def stage(name: str, advance: Progress) -> Iterator[None]:
    """Report the begin and the successful end of a stage of one step."""
    advance(name, 0, 1)
    yield
    advance(name, 1, 1)


def read_training_data(
    lake: LakeReader, request: TrainingRequest, task: PredictionTask, settings: Settings, advance: Progress
) -> TrainingData:
    """Labelled rows and features of a training.

    Args:
        lake: events, user attributes and links.
        request: the cut-off, and options with the policies of the rows.
        task: the prediction task.
        settings: sample sizes, seed, engine and the fewest buyers.
        advance: called at the begin and end of each stage.

    Raises:
        InputError: an unknown policy.
        DataError: too little data.
    """
    engine, options = EngineOptions.from_settings(settings), request.options
    with stage("rows", advance):
        labelled = build_labelled_rows(lake, task, options.policies, request.as_of, engine)
    return dataset.build_training_data(
        lake,
        replace(labelled, admitted=options.allow_leak),
        task,
        settings,
        as_of=labelled.known_until,
        advance=lambda done, total: advance("features", done, total),
    )


def evaluate_and_refit(
    data: TrainingData, seed: int, search: SearchResult, goal: RecallGoal, advance: Progress
) -> TrainingResult:
    """Fit the evaluation model with the selected configuration, choose thresholds and refit on all rows."""
    with stage("evaluate", advance):
        model = procedure.fit_evaluation_model(data, search.config, seed)
        scored = {
            name: procedure.score_period(model, data, name) for name in ("calibrate", "certify", "test")
        }
        points = {
            policy: procedure.choose_operating_points(
                scored["calibrate"][policy], scored["certify"][policy], goal
            )
            for policy in scored["test"]
        }
        model.set_params(threshold=points[model.primary].f1)
    with stage("refit", advance):
        served = procedure.refit_for_serving(data, search.config, points, goal)
    evaluated = {
        policy: evaluate_test_rows(data, policy, rows, points[policy], seed)
        for policy, rows in scored["test"].items()
    }
    return TrainingResult(
        search=search,
        evaluation=model,
        served=served,
        test=scored["test"],
        points=points,
        goal=goal,
        metrics={policy: metrics for policy, (metrics, _) in evaluated.items()},
        detail_metrics={policy: details for policy, (_, details) in evaluated.items()},
    )
