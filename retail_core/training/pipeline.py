"""The training pipeline: from the lake to a registered, evaluated and possibly promoted version."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from retail_core.features.cutoffs.policies import default_policies
from retail_core.model import leakage, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.explanations.contributions import ranked_importance
from retail_core.model.leakage import LeakageReport
from retail_core.model.spec import ModelSpec
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import PromotionDecision
from retail_core.settings import Settings
from retail_core.store.mongo.ledger import source_policy
from retail_core.temporary_files import temporary_folder
from retail_core.times import to_utc_ms
from retail_core.training.attempt_recovery import carry_out
from retail_core.training.attempt_run import OpenAttempt, attempt_run
from retail_core.training.attempts import AttemptKind, NewAttempt
from retail_core.training.champion_comparison import compare_with_champion, decide_promotion
from retail_core.training.options import TrainOptions
from retail_core.training.pinned_reading import read_pinned
from retail_core.training.results import TrainingResult, TrainReport, make_report, plot_caption
from retail_core.training.software import Software
from retail_core.training.stages import Progress, evaluate_and_refit, read_training_data, stage
from retail_core.training.training_request import TrainingRequest
from retail_core.training.version_spec import TrainingInputs, build_spec, flat_params
from retail_core.workspace import Workspace

STAGES = ("rows", "features", "leakage", "search", "evaluate", "refit", "gate", "register")


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
        AttemptRunningError: another training or recalibration is running.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    options = options or TrainOptions()
    options.check()
    advance = progress or (lambda _stage, _done, _total: None)
    instant, store = to_utc_ms(as_of), workspace.store
    new = NewAttempt(AttemptKind.TRAIN, instant, options.reason, champion_version(store))
    with attempt_run(store, new) as attempt:
        workspace, inputs = read_pinned(
            workspace, lambda pinned: _read_inputs(pinned, instant, options, advance)
        )
        attempt.lease.record_data(inputs.attempt_data)
        return _train_on(workspace, inputs, attempt, advance)


def _train_on(
    workspace: Workspace, inputs: TrainingInputs, attempt: OpenAttempt, advance: Progress
) -> TrainReport:
    """Fit, judge, register with the verdict, and promote if it says so."""
    settings, data, options = workspace.settings, inputs.data, inputs.request.options
    with stage("search", advance):
        search = procedure.run_search(data, settings, options.model)
    result = evaluate_and_refit(data, settings.seed, search, inputs.request.goal, advance)
    spec = build_spec(inputs, result, attempt.run)
    with stage("gate", advance):
        comparison = None if spec.leaky else compare_with_champion(workspace, data, search.config)
        decision = decide_promotion(comparison, leaky=spec.leaky, seed=settings.seed)
    attempt.lease.record_decision(decision)
    with stage("register", advance):
        spec = _register(settings, data, result, spec, decision)
        attempt.lease.record_version(spec.version)
        decision = carry_out(attempt.lease, spec, decision)
    return make_report(data, result, spec, decision)


def _read_inputs(
    workspace: Workspace, as_of: datetime, options: TrainOptions, advance: Progress
) -> TrainingInputs:
    """Everything that a training reads of the lake, checked."""
    options = _with_policies(workspace, as_of, options)
    request = TrainingRequest.of(as_of, options, workspace.settings)
    data = read_training_data(workspace.lake, request, workspace.task, workspace.settings, advance)
    procedure.refuse_uncertifiable_goal(data, request.goal)
    report = _refuse_leaks(workspace, data, options, advance)
    hashes = workspace.lake.hashes(as_of)
    state = replace(workspace.lake.state(as_of), data_hash=hashes.data_hash)
    return TrainingInputs(data, report, request, state, hashes.tables, Software.of_this_process())


def _with_policies(workspace: Workspace, as_of: datetime, options: TrainOptions) -> TrainOptions:
    if options.policies:
        return options
    policies = default_policies(workspace.lake, source_policy(workspace.store), as_of, workspace.engine)
    return replace(options, policies=policies)


def _refuse_leaks(
    workspace: Workspace, data: TrainingData, options: TrainOptions, advance: Progress
) -> LeakageReport:
    with stage("leakage", advance):
        guard_data = leakage.guard_data_from_training(
            workspace.lake, data, data.labelled.known_until, workspace.settings.seed
        )
        return leakage.refuse_leaks(guard_data, options.allow_leak)


def _register(
    settings: Settings,
    data: TrainingData,
    result: TrainingResult,
    spec: ModelSpec,
    decision: PromotionDecision,
) -> ModelSpec:
    """Draw the plots, log everything and register the served model; returns the spec with its version."""
    from retail_core.model.evaluation.plots import draw_all

    primary = spec.primary
    rows, matrix = procedure.period_rows(data, "test")
    matrix = matrix[rows["policy"].eq(primary).to_numpy(bool)]
    with temporary_folder("retail-plots-") as folder:
        points = result.points[primary]
        plots = draw_all(
            result.test[primary],
            caption=plot_caption(data, result.metrics[primary], primary),
            thresholds={"f1": points.f1, "contact": points.in_use.threshold},
            importances=ranked_importance(result.served.model, data.feature_set.columns, matrix),
            folder=folder,
        )
        candidate = registry.Candidate(
            spec=spec,
            served=result.served.model,
            evaluation=result.evaluation,
            params=flat_params(data, result, spec),
            search=result.search,
            plots=plots,
            verdict=decision.reason,
            verdict_tags=decision.tags(),
        )
        return registry.log_and_register(settings, candidate)
