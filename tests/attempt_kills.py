"""An attempt to train whose process is killed at a stated step.

The version that it registers is a variant of the champion, so that nothing has to be fitted. A module of its
own, so that the server process of `forked_processes` imports it once.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from types import ModuleType

from retail_core.registry import promotion, runs
from retail_core.registry import versions as registry
from retail_core.registry.promotion import GateVerdict, PromotionDecision
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.training import attempt_recovery, attempts
from retail_core.training.attempt_run import attempt_run
from retail_core.training.attempts import AttemptData, AttemptKind, AttemptLease, NewAttempt
from tests.forked_processes import REGISTRY_MODULES, ForkedProcess, Ready, preload
from tests.kill_points import kill_at
from tests.serving import variant_candidate

preload([*REGISTRY_MODULES, "tests.attempt_kills"])

AS_OF = datetime(2025, 3, 1, tzinfo=UTC)

KILL_POINTS: dict[str, tuple[ModuleType | type, str, bool]] = {
    "before it is recorded": (attempts, "start_attempt", False),
    "before its data are recorded": (AttemptLease, "record_data", False),
    "before the registration": (registry, "log_and_register", False),
    "before the model card": (registry, "_log_card", False),
    "after the registration": (registry, "log_and_register", True),
    "after the promotion": (promotion, "promote_on", True),
    "before its run ends": (runs, "end_run", False),
}
"""Module or class, function, and whether the process is killed after it instead of before it."""


def attempt(settings: Settings, verdict: GateVerdict, kill_point: str | None = None) -> None:
    """Register a variant of the champion as a training does, with a verdict, up to the kill point."""
    if kill_point:
        kill_at(*KILL_POINTS[kill_point])
    with open_store(settings) as store:
        new = NewAttempt(AttemptKind.TRAIN, AS_OF, "test", "1")
        with attempt_run(store, new) as opened:
            opened.lease.record_data(AttemptData(10, "hash", "features"))
            decision = PromotionDecision(
                verdict, f"{verdict}: AP", {"champion": "1", "ap_difference": 0.1, "interval": [0.0, 0.2]}
            )
            opened.lease.record_decision(decision)
            candidate = variant_candidate(settings, opened.run.run_id, 0.5, decision)
            spec = registry.log_and_register(settings, candidate)
            opened.lease.record_version(spec.version)
            attempt_recovery.carry_out(opened.lease, spec, decision)


def run_until_killed(settings: Settings, verdict: GateVerdict, kill_point: str) -> None:
    """Run `attempt` in a process and check that it was killed."""
    assert ForkedProcess.start(_attempt, settings, verdict, kill_point).wait() == -signal.SIGKILL


def _attempt(ready: Ready, settings: Settings, verdict: GateVerdict, kill_point: str) -> None:
    ready()
    attempt(settings, verdict, kill_point)
