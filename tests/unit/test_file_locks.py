"""Locks end with their process and are not inherited; files are replaced in one step."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from retail_core.file_locks import exclusive_lock, replace_file, try_lock, write_atomically

HOLD = """
import subprocess, sys, time
from pathlib import Path
from retail_core.file_locks import try_lock
lock = try_lock(Path(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_process_releases_its_lock_although_its_child_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        assert try_lock(path) is None
        holder.kill()
        holder.wait()
        lock = try_lock(path)
        assert lock is not None
        lock.release()
    finally:
        subprocess.run(["kill", str(child)], check=True)
        holder.stdout.close()


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    started = time.monotonic()
    assert try_lock(tmp_path / "lock", wait_seconds=0.2) is None
    assert time.monotonic() - started >= 0.2
    lock.release()
    with exclusive_lock(tmp_path / "lock"):
        assert try_lock(tmp_path / "lock") is None


def test_threads_enter_an_exclusive_lock_in_turn(tmp_path: Path) -> None:
    inside, overlaps = 0, []

    def work() -> None:
        nonlocal inside
        for _ in range(20):
            with exclusive_lock(tmp_path / "new" / "lock"):
                inside += 1
                overlaps.append(inside > 1)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(overlaps) == 60
    assert not any(overlaps)


def test_a_failed_replacement_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, "é")

    def fail() -> None:
        with replace_file(path) as stream:
            stream.write(b"half")
            assert path.read_text(encoding="utf-8") == "é"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text(encoding="utf-8") == "é"
    assert list(tmp_path.iterdir()) == [path]
