"""A training or recalibration as an MLflow run and a recorded attempt, which begin and end together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from pymongo.errors import PyMongoError

from retail_core.errors import DependencyError, IntegrityError
from retail_core.registry import runs
from retail_core.registry.runs import RunLabel, TrainingRun
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.leases import LEASE_SECONDS, new_owner
from retail_core.times import iso
from retail_core.training import attempts
from retail_core.training.attempt_recovery import LEASE_TAG, close_interrupted, lease_tag
from retail_core.training.attempts import AttemptKind, AttemptLease, AttemptState, NewAttempt

HEARTBEAT_SECONDS = LEASE_SECONDS / 3

_TITLES = {AttemptKind.TRAIN: "Training", AttemptKind.RECALIBRATE: "Recalibration"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt that this process is working on, with its MLflow run."""

    run: TrainingRun
    lease: AttemptLease


@contextmanager
def attempt_run(store: Store, new: NewAttempt) -> Iterator[OpenAttempt]:
    """Begin an attempt after closing interrupted ones; it ends with the block, with the block's error.

    Raises:
        AttemptRunningError: another training or recalibration is running.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    close_interrupted(store)
    attempts.refuse_second_attempt(store)
    owner, samples = new_owner(), list[Mapping[str, float]]()
    with runs.training_run(store.settings, _label(store, new, owner)) as run:
        lease = attempts.start_attempt(store, run.run_id, new, owner)
        with _recorded_end(lease), _heartbeat(lease, samples):
            yield OpenAttempt(run, lease)
        runs.log_system_metrics(store.settings, run, samples)


def _label(store: Store, new: NewAttempt, owner: str) -> RunLabel:
    title = f"{new.kind} {new.as_of:%Y-%m-%d}: {new.reason}"
    description = (
        f"{_TITLES[new.kind]} on what was known at {iso(new.as_of)}. Reason: {new.reason}. In production "
        f"then: {f'version {new.champion}' if new.champion else 'no version'}."
    )
    tags = {LEASE_TAG: lease_tag(store, owner), "kind": str(new.kind)}
    return RunLabel(new.reason, title, description, tags)


@contextmanager
def _recorded_end(lease: AttemptLease) -> Iterator[None]:
    """Record the end of the block; an end that cannot be recorded is left to the next command."""
    error: BaseException | None = None
    state = AttemptState.FINISHED
    try:
        yield
    except BaseException as raised:
        error = raised
        state = AttemptState.FAILED if isinstance(raised, Exception) else AttemptState.KILLED
        raise
    finally:
        try:
            attempts.finish_attempt(lease, state, error)
        except (PyMongoError, DependencyError) as unreachable:
            log.warning("The end of the training is not recorded: %s", unreachable)


@contextmanager
def _heartbeat(lease: AttemptLease, samples: list[Mapping[str, float]]) -> Iterator[None]:
    """Renew the lease and measure the machine in a thread while the block runs."""
    ended, started = threading.Event(), time.monotonic()

    def beat() -> None:
        while True:
            samples.append(_measure_machine(started))
            if ended.wait(HEARTBEAT_SECONDS):
                return
            try:
                lease.renew()
            except (PyMongoError, IntegrityError) as error:
                log.warning("The lease of the training is not renewed: %s", error)

    thread = threading.Thread(target=beat, name="training-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        samples.append(_measure_machine(started))


def _measure_machine(started: float) -> dict[str, float]:
    """Load of the machine, named as MLflow names it, memory of this process, and seconds since `started`."""
    memory = psutil.virtual_memory()
    return {
        "seconds": time.monotonic() - started,
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.used / memory.total * 100,
        "process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
    }
