"""One process answers; the next one takes over in the instant the first is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bentos.standby import LEAST_MEMORY, Turn, room_for_two

HOLDER = """
import sys, time
from pathlib import Path
from bentos.standby import Turn
assert Turn(int(sys.argv[2]), Path(sys.argv[1])).take()
print("mine", flush=True)
time.sleep(600)
"""


def holder(folder: Path, supervisor: int = 7) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(folder), str(supervisor)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def test_the_turn_passes_when_its_holder_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        try:
            second = Turn(7, tmp_path)
            assert not second.take()
            second.after_the_first()
            assert asyncio.run(wait_while_killing(second, first))
        finally:
            first.kill()
    assert not Turn(7, tmp_path).take()


async def wait_while_killing(turn: Turn, holder: subprocess.Popen[str]) -> bool:
    waiting = asyncio.create_task(turn.wait())
    await asyncio.sleep(0)
    holder.kill()
    return await asyncio.wait_for(waiting, 60)


def test_services_of_other_supervisors_do_not_wait_for_each_other(tmp_path: Path) -> None:
    turns = [Turn(supervisor, tmp_path) for supervisor in (1, 2)]
    assert [turn.take() for turn in turns] == [True, True]


def test_a_file_is_made_when_it_is_needed_and_those_left_over_go(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    turn = Turn(os.getpid(), folder)
    assert not folder.exists()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(60)
    with holder(folder, gone.pid) as other:
        try:
            assert turn.take()
            assert names(folder) == {f"api-{gone.pid}.lock", f"api-{os.getpid()}.lock"}
        finally:
            other.kill()
    assert Turn(os.getppid(), folder).take()
    assert names(folder) == {f"api-{os.getpid()}.lock", f"api-{os.getppid()}.lock"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_second_process_does_not_wait_for_ever_for_a_first_that_never_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.standby.START_SECONDS", 0.1)
    turn = Turn(7, tmp_path)
    turn.after_the_first()
    assert turn.take()


@pytest.mark.parametrize(
    ("limit", "room"), [("max", True), (str(LEAST_MEMORY), True), (str(LEAST_MEMORY - 1), False)]
)
def test_a_small_container_has_no_second_process(tmp_path: Path, limit: str, *, room: bool) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert room_for_two([tmp_path / "none", tmp_path / "memory.max"]) is room


def test_without_control_groups_there_is_room(tmp_path: Path) -> None:
    assert room_for_two([tmp_path / "none"])
