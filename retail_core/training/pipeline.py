"""`train`: from the lake to a registered, judged and perhaps promoted model. The wiring, in one page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from retail_core.errors import InputError
from retail_core.features.cutoffs.policies import default_policies
from retail_core.model import dataset, leakage, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.explanations.contributions import ranked_importance
from retail_core.model.families import select_families
from retail_core.model.labelled import build_labelled_rows
from retail_core.model.procedure import RecallGoal
from retail_core.model.search import SearchResult
from retail_core.model.spec import ModelSpec
from retail_core.registry import promotion
from retail_core.registry import versions as registry
from retail_core.settings import Settings
from retail_core.store.mongo.ledger import source_policy
from retail_core.times import iso, to_utc_ms
from retail_core.training.champion_comparison import compare_with_champion, decide_promotion
from retail_core.training.options import TrainOptions, TrainReport
from retail_core.training.results import (
    TrainingResult,
    add_test_metrics,
    build_spec,
    caption,
    contact_cost_sentence,
    flat_params,
    population,
)
from retail_core.workspace import Workspace

__all__ = ["STAGES", "TrainOptions", "TrainReport", "train"]

STAGES = ("rows", "features", "leakage", "search", "evaluate", "refit", "register", "gate")

Progress = Callable[[str, int, int], None]


def train(
    workspace: Workspace,
    *,
    as_of: datetime,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> TrainReport:
    """Search, calibrate, certify, judge, refit, log, register; promote if the gate says so.

    Args:
        workspace: its lake is read in its state at the start of the training.
        as_of: aware; only labels known then are used (t + horizon <= as_of), and where the log ends
            earlier only those known at its end.
        options: see `TrainOptions`.
        progress: called with a stage of `STAGES`, done and total.

    Raises:
        InputError: an unknown model or policy, or a recall or confidence outside (0, 1].
        DataError: too little data to train on, or to certify what must be certified.
        LeakageError: a column gives the answer away and was not allowed by name.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    options = options or TrainOptions()
    _refuse_unknown(options)
    advance = progress or (lambda _stage, _done, _total: None)
    workspace, instant, settings = workspace.pinned(), to_utc_ms(as_of), workspace.settings
    promotion.repair(workspace.store)
    policies = options.policies or default_policies(
        workspace.lake, source_policy(workspace.store), instant, workspace.engine
    )
    options = replace(options, policies=policies)
    data = _prepare(workspace, instant, options, advance)
    goal = RecallGoal(options.target_recall, options.confidence, settings.seed, options.must_certify)
    procedure.refuse_uncertifiable_goal(data, goal)
    known = data.labelled.known_until
    guarded = _guard(workspace, data, known, options, advance)
    with registry.training_run(settings, reason=options.reason) as run:
        advance("search", 0, 1)
        found = procedure.run_search(data, settings, options.model)
        advance("search", 1, 1)
        outcome = _judge_and_refit(data, settings, found, goal, advance)
        spec = build_spec(
            data, outcome, run, workspace.lake.state(instant), known, leaky=bool(options.allow_leak)
        )
        spec = replace(spec, training=spec.training | {"leakage": guarded.to_dict()})
        advance("register", 0, 1)
        spec = _register(settings, data, outcome, spec)
        advance("register", 1, 1)
    decision = _gate(workspace, data, outcome, spec, advance)
    if decision.promote:
        promotion.promote_on(workspace.store, spec.version, decision)
    return _report(data, outcome, spec, decision)


def _refuse_unknown(options: TrainOptions) -> None:
    select_families(options.model)
    asked = f"A recall of {options.target_recall:g} at {options.confidence:g} cannot be asked for."
    if not 0 < options.target_recall <= 1 or not 0 < options.confidence < 1:
        raise InputError(asked, remedy="use a recall in (0, 1] and a confidence in (0, 1).")


def _prepare(workspace: Workspace, as_of: datetime, options: TrainOptions, advance: Progress) -> TrainingData:
    task = workspace.task
    advance("rows", 0, 1)
    labelled = build_labelled_rows(workspace.lake, task, options.policies, as_of, workspace.engine)
    advance("rows", 1, 1)
    return dataset.build_training_data(
        workspace.lake,
        replace(labelled, admitted=options.allow_leak),
        task,
        workspace.settings,
        as_of=labelled.known_until,
        advance=lambda done, total: advance("features", done, total),
    )


def _guard(
    workspace: Workspace,
    data: TrainingData,
    as_of: datetime,
    options: TrainOptions,
    advance: Progress,
) -> leakage.LeakageReport:
    advance("leakage", 0, 1)
    evidence = leakage.guard_data_from_training(workspace.lake, data, as_of, workspace.settings.seed)
    guarded = leakage.refuse_leaks(evidence, options.allow_leak)
    advance("leakage", 1, 1)
    return guarded


def _judge_and_refit(
    data: TrainingData, settings: Settings, found: SearchResult, goal: RecallGoal, advance: Progress
) -> TrainingResult:
    advance("evaluate", 0, 1)
    model = procedure.fit_evaluation_model(data, found.config, settings.seed)
    judged = {name: procedure.score_period(model, data, name) for name in ("calibrate", "certify", "test")}
    points = {
        policy: procedure.choose_operating_points(
            judged["calibrate"][policy], judged["certify"][policy], goal
        )
        for policy in judged["test"]
    }
    model.set_params(threshold=points[model.primary].f1)
    advance("evaluate", 1, 1)
    advance("refit", 0, 1)
    served = procedure.refit_for_serving(data, found.config, points, goal)
    advance("refit", 1, 1)
    outcome = TrainingResult(found, model, served, judged["test"], points, goal)
    return add_test_metrics(data, outcome, settings.seed)


def _register(settings: Settings, data: TrainingData, outcome: TrainingResult, spec: ModelSpec) -> ModelSpec:
    from retail_core.model.evaluation.plots import draw_all

    primary = spec.primary
    rows, tested = procedure.period_rows(data, "test")
    tested = tested[rows["policy"].eq(primary).to_numpy(bool)]
    ranked = ranked_importance(outcome.served.model, data.feature_set.columns, tested)
    with tempfile.TemporaryDirectory() as folder:
        points = outcome.points[primary]
        pictures = draw_all(
            outcome.test[primary],
            caption=caption(data, outcome, primary),
            thresholds={"f1": points.f1, "contact": points.in_use.threshold},
            importances=ranked,
            folder=Path(folder),
        )
        return registry.log_and_register(
            settings,
            registry.Candidate(
                spec,
                outcome.served.model,
                outcome.evaluation,
                flat_params(data, outcome, spec),
                outcome.search,
                pictures,
            ),
        )


def _gate(
    workspace: Workspace, data: TrainingData, outcome: TrainingResult, spec: ModelSpec, advance: Progress
) -> promotion.PromotionDecision:
    advance("gate", 0, 1)
    contest = None if spec.leaky else compare_with_champion(workspace, data, outcome.search.config)
    decision = decide_promotion(contest, leaky=spec.leaky, seed=workspace.settings.seed)
    advance("gate", 1, 1)
    return decision


def _report(
    data: TrainingData, outcome: TrainingResult, spec: ModelSpec, decision: promotion.PromotionDecision
) -> TrainReport:
    primary = spec.primary
    return TrainReport(
        run_id=spec.run_id,
        version=spec.version,
        promoted=decision.promote,
        reason=decision.reason,
        metrics=spec.metrics[primary],
        by_policy={
            policy: spec.metrics[policy]
            | {"thresholds": spec.thresholds[policy], "certificate": spec.certificates[policy]}
            for policy in spec.policies
        },
        threshold=spec.thresholds[primary]["contact"],
        certificate=spec.certificate,
        certificate_reason=spec.reasons[primary],
        price=contact_cost_sentence(spec.metrics[primary], spec.certificate),
        split=data.split.kind,
        periods=spec.training["periods"],
        family=outcome.search.config.family,
        best_params=outcome.search.best_params,
        search=outcome.search.to_dict(),
        leakage=spec.training["leakage"],
        eligible=population(data),
        known_until=iso(data.labelled.known_until),
        gaps=tuple(str(day) for day in data.labelled.gaps),
        dropped_features=data.dropped,
        features=len(data.feature_set.columns),
        gate=asdict(decision),
    )
