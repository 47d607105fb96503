"""The record of trainings and recalibrations in MongoDB: what was tried on which data, and its verdict.

One document per attempt; `_id` is the id of its MLflow run. A unique index permits one running attempt, so
trainings never run at the same time. A running attempt has a lease that its process renews
(`store.mongo.leases`), by which the next command knows that it was killed. Times are those of the server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError

from retail_core.errors import DependencyError, InputError, IntegrityError
from retail_core.registry.promotion import GateVerdict, PromotionDecision
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.leases import is_this_process, lease_end, lease_ended, new_lease, new_owner
from retail_core.times import iso

MAX_INTERRUPTIONS = 3
"""After as many attempts on the same data that did not end, the data count as tried."""

_leases_of_this_process: set[str] = set()


class AttemptKind(StrEnum):
    """What was tried."""

    TRAIN = "train"
    RECALIBRATE = "recalibrate"


class AttemptState(StrEnum):
    """How far an attempt got: `failed` ended with an error, `killed` did not end by itself."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


class AttemptRunningError(InputError):
    """Another training or recalibration is running."""


@dataclass(frozen=True)
class AttemptData:
    """The data of an attempt.

    Attributes:
        events: number of events before its `as_of`.
        data_hash: of the rows that it read; None where they were not hashed.
        feature_set_hash: of its features; None until they are known.
    """

    events: int
    data_hash: str | None = None
    feature_set_hash: str | None = None


@dataclass(frozen=True)
class TrainingAttempt:
    """One training or recalibration.

    Attributes:
        run_id: of its MLflow run.
        kind: what was tried.
        state: how far it got.
        started_at: by the clock of the MongoDB server, UTC.
        ended_at: None while it runs.
        as_of: cut-off that was asked for, UTC.
        data: what was read; None if it ended before.
        reason: names of the triggers, or who asked.
        champion: the version in production when it began.
        version: that was registered.
        ap_difference: challenger's average precision less the champion's on the same rows.
        interval: 95 % interval of the compared difference: of `ap_difference`, or of the gain in log loss of
            a recalibration.
        verdict: of the promotion gate.
        decision: the verdict in a sentence, or the error that ended the attempt.
        retryable: whether the same data may be tried again, because nothing was learned from them.
        evidence: figures behind the verdict.
    """

    run_id: str
    kind: AttemptKind
    state: AttemptState
    started_at: datetime
    ended_at: datetime | None
    as_of: datetime
    data: AttemptData | None
    reason: str
    champion: str | None
    version: str | None
    ap_difference: float | None
    interval: tuple[float, float] | None
    verdict: GateVerdict | None
    decision: str | None
    retryable: bool
    evidence: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> TrainingAttempt:
        """The attempt as stored."""
        interval, verdict, data = (document.get(name) for name in ("interval", "verdict", "data"))
        return cls(
            run_id=document["_id"],
            kind=AttemptKind(document["kind"]),
            state=AttemptState(document["state"]),
            started_at=document["started_at"],
            ended_at=document.get("ended_at"),
            as_of=document["as_of"],
            data=AttemptData(**data) if data else None,
            reason=document["reason"],
            champion=document.get("champion"),
            version=document.get("version"),
            ap_difference=document.get("ap_difference"),
            interval=(interval[0], interval[1]) if interval else None,
            verdict=GateVerdict(verdict) if verdict else None,
            decision=document.get("decision"),
            retryable=document.get("retryable", False),
            evidence=document.get("evidence") or {},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as shown by the command line."""
        return asdict(self) | {"interval": list(self.interval) if self.interval else None}

    def promotion_decision(self) -> PromotionDecision:
        """The decision of the gate, as it was recorded before the version was registered.

        Raises:
            IntegrityError: it was not judged.
        """
        if self.verdict is None or self.decision is None:
            raise IntegrityError(
                f"The training of run {self.run_id} has no verdict.", remedy="run `retail train` again."
            )
        return PromotionDecision(self.verdict, self.decision, dict(self.evidence))


@dataclass(frozen=True)
class NewAttempt:
    """What is about to be tried; attributes as in `TrainingAttempt`."""

    kind: AttemptKind
    as_of: datetime
    reason: str
    champion: str | None


@dataclass(frozen=True)
class AttemptLease:
    """A running attempt that this process works on under the name `owner`.

    All changes raise IntegrityError where another command has taken the attempt for interrupted.
    """

    store: Store
    run_id: str
    owner: str

    def record_data(self, data: AttemptData) -> None:
        """Record what was read."""
        self._update({"data": asdict(data)})

    def record_decision(self, decision: PromotionDecision) -> None:
        """Record the verdict, before a version is registered with it."""
        fields = {name: decision.evidence.get(name) for name in ("ap_difference", "interval")}
        verdict = {"verdict": str(decision.verdict), "decision": decision.reason}
        self._update(verdict | fields | {"evidence": decision.evidence})

    def record_version(self, version: str) -> None:
        """Record the registered version."""
        self._update({"version": version})

    def renew(self) -> None:
        """Extend the lease."""
        self._update({"lease.until": lease_end()}, literal=False)

    def _update(self, fields: Document, *, literal: bool = True) -> None:
        values = {name: {"$literal": value} for name, value in fields.items()} if literal else fields
        query = _held_by(self.run_id, self.owner)
        if self.store.training_attempts.update_one(query, [{"$set": values}]).matched_count == 0:
            raise IntegrityError(
                "Another command took this training for interrupted and closed it.",
                remedy="run it again; `retail models attempts` shows the attempts.",
            )


def start_attempt(store: Store, run_id: str, new: NewAttempt, owner: str) -> AttemptLease:
    """Record a running attempt.

    Args:
        store: the open store.
        run_id: of its MLflow run.
        new: what is about to be tried.
        owner: name of its lease, from `leases.new_owner`.

    Raises:
        AttemptRunningError: another attempt is running.
    """
    fields = asdict(new) | {"kind": str(new.kind), "state": str(AttemptState.RUNNING)}
    literals = {name: {"$literal": value} for name, value in fields.items()}
    update = literals | {"started_at": "$$NOW", "lease": new_lease(owner)}
    try:
        store.training_attempts.update_one({"_id": run_id}, [{"$set": update}], upsert=True)
    except DuplicateKeyError:
        refuse_second_attempt(store)
        raise
    _leases_of_this_process.add(owner)
    return AttemptLease(store, run_id, owner)


def refuse_second_attempt(store: Store) -> None:
    """Refuse to start while another attempt is running.

    Raises:
        AttemptRunningError: one is.
    """
    running = store.training_attempts.find_one({"state": str(AttemptState.RUNNING)})
    if running is not None:
        lease = running.get("lease") or {}
        raise AttemptRunningError(
            f"Another {running['kind']} has run since {iso(running['started_at'])}, as process "
            f"{lease.get('pid', '?')} on {lease.get('host', '?')}.",
            remedy="wait until it ends; `retail models attempts` shows it.",
        )


def take_over(store: Store, run_id: str, previous_owner: str) -> AttemptLease | None:
    """Lease an interrupted attempt; None where another process was faster."""
    owner = new_owner()
    update = [{"$set": {"lease": new_lease(owner)}}]
    if store.training_attempts.update_one(_held_by(run_id, previous_owner), update).matched_count == 0:
        return None
    _leases_of_this_process.add(owner)
    return AttemptLease(store, run_id, owner)


def finish_attempt(lease: AttemptLease, state: AttemptState, error: BaseException | None = None) -> None:
    """Record the end of an attempt, unless another process has closed it.

    Args:
        lease: of the attempt; it ends.
        state: how the attempt ended.
        error: that ended it.
    """
    _leases_of_this_process.discard(lease.owner)
    fields: Document = {"state": str(state), "lease": None}
    if error is not None:
        fields["decision"] = str(error) or type(error).__name__
    fields["retryable"] = state == AttemptState.KILLED or isinstance(error, DependencyError)
    literals = {name: {"$literal": value} for name, value in fields.items()}
    update = [{"$set": literals | {"ended_at": "$$NOW"}}]
    lease.store.training_attempts.update_one(_held_by(lease.run_id, lease.owner), update)


def conclusive_attempts(store: Store) -> list[TrainingAttempt]:
    """Attempts that learned something from their data, or failed because of them, newest first.

    Those that run, were killed, or were cut off from MLflow or MongoDB do not count: the same data may be
    tried again, until `MAX_INTERRUPTIONS` attempts on them did not end.
    """
    conclusive = []
    interrupted: Counter[tuple[AttemptKind, datetime]] = Counter()
    for attempt in list_attempts(store):
        if attempt.state == AttemptState.RUNNING:
            continue
        data_key = (attempt.kind, attempt.as_of)
        interrupted[data_key] += attempt.retryable
        if not attempt.retryable or interrupted[data_key] == MAX_INTERRUPTIONS:
            conclusive.append(attempt)
    return conclusive


def newest_attempt(store: Store, kind: AttemptKind | None = None) -> TrainingAttempt | None:
    """The newest of `conclusive_attempts`, of a kind; of any kind by default."""
    attempts = conclusive_attempts(store)
    return next((attempt for attempt in attempts if kind in {None, attempt.kind}), None)


def list_attempts(store: Store) -> list[TrainingAttempt]:
    """Every attempt, newest first."""
    documents = store.training_attempts.find().sort("started_at", DESCENDING)
    return [TrainingAttempt.from_document(document) for document in documents]


def interrupted_attempts(store: Store) -> list[tuple[TrainingAttempt, str]]:
    """Attempts that are recorded as running and are not, each with the name of its lease."""
    running = store.training_attempts.find({"state": str(AttemptState.RUNNING)})
    return [
        (TrainingAttempt.from_document(document), str(document["lease"]["owner"]))
        for document in running
        if process_ended(store, document["lease"])
    ]


def process_ended(store: Store, lease: Mapping[str, Any]) -> bool:
    """Whether the process of a lease has ended, or is this one and no longer holds the lease."""
    if is_this_process(lease) and lease["owner"] not in _leases_of_this_process:
        return True
    return lease_ended(store, lease)


def _held_by(run_id: str, owner: str) -> Document:
    return {"_id": run_id, "state": str(AttemptState.RUNNING), "lease.owner": owner}
