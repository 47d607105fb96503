"""The training pipeline: from the lake to a registered, evaluated and possibly promoted version."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from retail_core.features.cutoffs.policies import default_policies
from retail_core.model import dataset, leakage, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.explanations.contributions import ranked_importance
from retail_core.model.labelled import build_labelled_rows
from retail_core.model.leakage import LeakageReport
from retail_core.model.procedure import RecallGoal
from retail_core.model.search import SearchResult
from retail_core.model.spec import ModelSpec
from retail_core.registry import promotion
from retail_core.registry import versions as registry
from retail_core.settings import Settings
from retail_core.store.mongo.ledger import source_policy
from retail_core.times import to_utc_ms
from retail_core.training.champion_comparison import compare_with_champion, decide_promotion
from retail_core.training.options import TrainOptions
from retail_core.training.results import (
    TrainingResult,
    TrainReport,
    evaluate_test_rows,
    make_report,
    plot_caption,
)
from retail_core.training.version_spec import build_spec, flat_params
from retail_core.workspace import Workspace

STAGES = ("rows", "features", "leakage", "search", "evaluate", "refit", "register", "gate")

Progress = Callable[[str, int, int], None]
"""Called with a stage of `STAGES`, the steps done and the steps in total."""


def train(
    workspace: Workspace,
    *,
    as_of: datetime,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> TrainReport:
    """Search, calibrate, certify, evaluate, refit, log and register; promote if the comparison allows it.

    Args:
        workspace: its lake is read in its state at the start of the training.
        as_of: aware; only labels known then are used (t + horizon <= as_of), and where the log ends
            earlier only those known at its end.
        options: see `TrainOptions`.
        progress: called at the begin and end of each stage.

    Raises:
        InputError: an unknown model or policy, or a recall or confidence outside (0, 1].
        DataError: too little data to train on, or to certify what must be certified.
        LeakageError: a column reveals the label and was not allowed by name.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    options = options or TrainOptions()
    options.check()
    advance = progress or (lambda _stage, _done, _total: None)
    workspace, instant, settings = workspace.pinned(), to_utc_ms(as_of), workspace.settings
    promotion.repair(workspace.store)
    options = _with_policies(workspace, instant, options)
    data = _build_data(workspace, instant, options, advance)
    goal = RecallGoal(options.target_recall, options.confidence, settings.seed, options.must_certify)
    procedure.refuse_uncertifiable_goal(data, goal)
    leakage_report = _refuse_leaks(workspace, data, options, advance)
    with registry.training_run(settings, reason=options.reason) as run:
        with _stage("search", advance):
            search = procedure.run_search(data, settings, options.model)
        result = _evaluate_and_refit(data, settings, search, goal, advance)
        spec = build_spec(data, result, run, workspace.lake.state(instant, hashed=True), leakage_report)
        with _stage("register", advance):
            spec = _register(settings, data, result, spec)
    with _stage("gate", advance):
        comparison = None if spec.leaky else compare_with_champion(workspace, data, search.config)
        decision = decide_promotion(comparison, leaky=spec.leaky, seed=settings.seed)
    if decision.promote:
        promotion.promote_on(workspace.store, spec.version, decision)
    return make_report(data, result, spec, decision)


@contextmanager
def _stage(name: str, advance: Progress) -> Iterator[None]:
    """Report the begin and the successful end of a stage of one step."""
    advance(name, 0, 1)
    yield
    advance(name, 1, 1)


def _with_policies(workspace: Workspace, as_of: datetime, options: TrainOptions) -> TrainOptions:
    if options.policies:
        return options
    policies = default_policies(workspace.lake, source_policy(workspace.store), as_of, workspace.engine)
    return replace(options, policies=policies)


def _build_data(
    workspace: Workspace, as_of: datetime, options: TrainOptions, advance: Progress
) -> TrainingData:
    task = workspace.task
    with _stage("rows", advance):
        labelled = build_labelled_rows(workspace.lake, task, options.policies, as_of, workspace.engine)
    return dataset.build_training_data(
        workspace.lake,
        replace(labelled, admitted=options.allow_leak),
        task,
        workspace.settings,
        as_of=labelled.known_until,
        advance=lambda done, total: advance("features", done, total),
    )


def _refuse_leaks(
    workspace: Workspace, data: TrainingData, options: TrainOptions, advance: Progress
) -> LeakageReport:
    with _stage("leakage", advance):
        guard_data = leakage.guard_data_from_training(
            workspace.lake, data, data.labelled.known_until, workspace.settings.seed
        )
        return leakage.refuse_leaks(guard_data, options.allow_leak)


def _evaluate_and_refit(
    data: TrainingData, settings: Settings, search: SearchResult, goal: RecallGoal, advance: Progress
) -> TrainingResult:
    with _stage("evaluate", advance):
        model = procedure.fit_evaluation_model(data, search.config, settings.seed)
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
    with _stage("refit", advance):
        served = procedure.refit_for_serving(data, search.config, points, goal)
    evaluated = {
        policy: evaluate_test_rows(data, policy, rows, points[policy], settings.seed)
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


def _register(settings: Settings, data: TrainingData, result: TrainingResult, spec: ModelSpec) -> ModelSpec:
    """Draw the plots, log everything and register the served model; returns the spec with its version."""
    from retail_core.model.evaluation.plots import draw_all

    primary = spec.primary
    rows, matrix = procedure.period_rows(data, "test")
    matrix = matrix[rows["policy"].eq(primary).to_numpy(bool)]
    with tempfile.TemporaryDirectory() as folder:
        points = result.points[primary]
        plots = draw_all(
            result.test[primary],
            caption=plot_caption(data, result.metrics[primary], primary),
            thresholds={"f1": points.f1, "contact": points.in_use.threshold},
            importances=ranked_importance(result.served.model, data.feature_set.columns, matrix),
            folder=Path(folder),
        )
        candidate = registry.Candidate(
            spec=spec,
            served=result.served.model,
            evaluation=result.evaluation,
            params=flat_params(data, result, spec),
            search=result.search,
            plots=plots,
        )
        return registry.log_and_register(settings, candidate)
