"""One process answers; the next one takes over in the instant the first is killed."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bentos.leader_lock import FILE_NAME, MIN_MEMORY_BYTES, LeaderLock, memory_allows_standby

HOLDER = """
import sys, time
from pathlib import Path
from bentos.leader_lock import LeaderLock
assert LeaderLock(int(sys.argv[2]), Path(sys.argv[1])).try_acquire()
print("held", flush=True)
time.sleep(600)
"""


def holder(folder: Path, supervisor: int = 7) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(folder), str(supervisor)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_turn_passes_when_its_holder_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        try:
            second = LeaderLock(7, tmp_path)
            assert not second.try_acquire()
            second.wait_for_other_holder()
            assert asyncio.run(wait_while_killing(second, first))
        finally:
            first.kill()
    assert not LeaderLock(7, tmp_path).try_acquire()


def lock_name(supervisor: int) -> str:
    return FILE_NAME.format(host=platform.node(), supervisor=supervisor)


async def wait_while_killing(lock: LeaderLock, holder: subprocess.Popen[str]) -> bool:
    waiting = asyncio.create_task(lock.wait())
    await asyncio.sleep(0)
    holder.kill()
    return await asyncio.wait_for(waiting, 60)


def test_containers_that_share_a_folder_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """The service is process 1 in each of them."""
    locks = [LeaderLock(1, tmp_path, host) for host in ("api-5d9c-x2x", "api-5d9c")]
    assert [lock.try_acquire() for lock in locks] == [True, True]


def test_services_of_other_supervisors_do_not_wait_for_each_other(tmp_path: Path) -> None:
    locks = [LeaderLock(supervisor, tmp_path) for supervisor in (1, 2)]
    assert [lock.try_acquire() for lock in locks] == [True, True]


def test_a_file_is_made_when_it_is_needed_and_those_left_over_go(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    lock = LeaderLock(os.getpid(), folder)
    assert not folder.exists()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(60)
    with holder(folder, gone.pid) as other_holder:
        try:
            assert lock.try_acquire()
            assert names(folder) == {lock_name(gone.pid), lock_name(os.getpid())}
        finally:
            other_holder.kill()
    assert LeaderLock(os.getppid(), folder).try_acquire()
    assert names(folder) == {lock_name(os.getpid()), lock_name(os.getppid())}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_second_process_does_not_wait_for_ever_for_a_first_that_never_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.leader_lock.START_TIMEOUT_SECONDS", 0.1)
    lock = LeaderLock(7, tmp_path)
    lock.wait_for_other_holder()
    assert lock.try_acquire()


@pytest.mark.parametrize(
    ("limit", "room"), [("max", True), (str(MIN_MEMORY_BYTES), True), (str(MIN_MEMORY_BYTES - 1), False)]
)
def test_a_small_container_has_no_second_process(tmp_path: Path, limit: str, *, room: bool) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert memory_allows_standby([tmp_path / "none", tmp_path / "memory.max"]) is room


def test_without_control_groups_there_is_room(tmp_path: Path) -> None:
    assert memory_allows_standby([tmp_path / "none"])
