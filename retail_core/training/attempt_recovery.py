"""Close trainings that were killed: MLflow run, recorded attempt, and a version that awaits promotion.

A version is registered with its verdict, so a killed training leaves either no version, and ends as killed,
or one whose promotion is completed here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from retail_core.errors import DataError, IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.registry import promotion, runs, shadow_record
from retail_core.registry import versions as registry
from retail_core.registry.promotion import GateVerdict, PromotionDecision
from retail_core.store.mongo.connection import Store, server_time
from retail_core.store.mongo.leases import LEASE_SECONDS, this_process
from retail_core.times import iso, parse_instant
from retail_core.training import attempts
from retail_core.training.attempts import AttemptLease, AttemptState, TrainingAttempt

LEASE_TAG = "training_lease"
"""Tag of an MLflow run: the process that works on it, until the attempt is recorded in MongoDB."""

_RUN_STATUS = {
    AttemptState.FINISHED: runs.FINISHED,
    AttemptState.FAILED: runs.FAILED,
    AttemptState.KILLED: runs.KILLED,
}

log = logging.getLogger(__name__)


def lease_tag(store: Store, owner: str) -> str:
    """Value of `LEASE_TAG` for this process."""
    until = server_time(store) + timedelta(seconds=LEASE_SECONDS)
    return json.dumps(this_process(owner) | {"until": iso(until)})


def close_interrupted(store: Store) -> list[str]:
    """Close what killed trainings left; returns the ids of the runs.

    It may be killed and repeated, and run at the same time as another.

    Raises:
        DependencyError: MLflow is unreachable.
    """
    closed = [
        attempt.run_id
        for attempt, owner in attempts.interrupted_attempts(store)
        if _close_attempt(store, attempt, owner)
    ]
    for run in runs.running_runs(store.settings, LEASE_TAG):
        state = _ended_state(store, run.run_id, run.tags[LEASE_TAG])
        if state is not None:
            runs.end_run(store.settings, run.run_id, _RUN_STATUS[state])
            closed.append(run.run_id)
    return list(dict.fromkeys(closed))


def carry_out(lease: AttemptLease, spec: ModelSpec, decision: PromotionDecision) -> PromotionDecision:
    """Promote a registered version or let it shadow the champion, as decided; repeating it changes nothing.

    Returns:
        The decision; one with the verdict `refused` where the version cannot shadow the champion.

    Raises:
        DataError: the version does not exist any more.
        IntegrityError: the champion has changed since the decision, or the version is damaged; the verdict
            on the version then says so.
    """
    try:
        if decision.verdict == GateVerdict.SHADOW:
            shadow_record.start_challenger(lease.store, spec.version, decision.reason)
        elif decision.promote and not _is_promoted(lease):
            promotion.promote_on(lease.store, spec.version, decision)
    except (DataError, IntegrityError) as error:
        reason = f"{decision.reason}; not {decision.verdict}: {error.message.rstrip('.')}"
        refused = PromotionDecision(GateVerdict.REFUSED, reason, decision.evidence)
        lease.record_decision(refused)
        registry.correct_verdict(lease.store.settings, spec, refused.reason, refused.tags())
        if decision.promote:
            raise
        return refused
    return decision


def _is_promoted(lease: AttemptLease) -> bool:
    return lease.store.promotions.find_one({"run_id": lease.run_id, "kind": "promote"}) is not None


def _close_attempt(store: Store, attempt: TrainingAttempt, owner: str) -> bool:
    """Complete an attempt that registered a version, else record it as killed."""
    lease = attempts.take_over(store, attempt.run_id, owner)
    if lease is None:
        return False
    version = runs.version_of_run(store.settings, attempt.run_id)
    if version is None:
        log.warning("The %s of MLflow run %s was interrupted.", attempt.kind, attempt.run_id)
        runs.end_run(store.settings, attempt.run_id, runs.KILLED)
        attempts.finish_attempt(lease, AttemptState.KILLED)
        return True
    log.warning("The interrupted %s of version %s is completed.", attempt.kind, version)
    lease.record_version(version)
    try:
        spec = registry.complete_registration(store.settings, version)
        carry_out(lease, spec, attempt.promotion_decision())
    except (DataError, IntegrityError) as error:
        attempts.finish_attempt(lease, AttemptState.FAILED, error)
    else:
        attempts.finish_attempt(lease, AttemptState.FINISHED)
    return True


def _ended_state(store: Store, run_id: str, tag: str) -> AttemptState | None:
    """State of the attempt of an MLflow run that is recorded as running; None while it may run."""
    document = store.training_attempts.find_one({"_id": run_id}, {"state": 1})
    if document is not None:
        state = AttemptState(document["state"])
        return None if state == AttemptState.RUNNING else state
    lease: Mapping[str, Any] = json.loads(tag)
    ended = attempts.process_ended(store, {**lease, "until": parse_instant(lease["until"])})
    return AttemptState.KILLED if ended else None
