"""Temporary files below the home: the next process deletes those of a killed one, and no others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from retail_core.file_locks import replace_file
from retail_core.temporary_files import claim_temporary_folder, noted_partial, temporary_folder

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from retail_core.file_locks import replace_file
from retail_core.temporary_files import claim_temporary_folder, noted_partial, temporary_folder

end = claim_temporary_folder(Path(sys.argv[1]))
out, temporary = Path(sys.argv[2]), temporary_folder("rows-")
(temporary.__enter__() / "rows").write_text("u1")
(out / "backup.part").mkdir()
(out / "backup.part" / "rows").write_text("u1")
with noted_partial(out / "backup.part"), replace_file(out / "scores.csv") as stream:
    stream.write(b"u1")
    stream.flush()
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "tmp"
    folder.mkdir(parents=True)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix != ".lock"
    )


def test_what_a_killed_process_left_is_deleted_by_the_next_claim(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "other.csv").write_text("stays")
    command = [sys.executable, "-c", HOLD, str(root), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        claim_temporary_folder(root)()
        assert len(files(out)) == 3, "of a process that lives"
        assert files(root) == ["lock", "rows"]
        os.kill(process.pid, signal.SIGKILL)
    end = claim_temporary_folder(root)
    assert [path.name for path in out.iterdir()] == ["other.csv"]
    assert files(root) == ["lock"]
    end()


def test_temporary_folders_are_below_the_root_until_the_last_claim_ends(root: Path) -> None:
    first, second = claim_temporary_folder(root), claim_temporary_folder(root)
    first()
    first()
    with temporary_folder("rows-") as folder:
        assert root in folder.parents
        assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    second()
    assert [path.name for path in root.iterdir()] == ["lock"]
    with temporary_folder("rows-") as folder:
        assert folder.parent == Path(tempfile.gettempdir())


def test_a_folder_that_outlives_the_claim_is_no_error(root: Path) -> None:
    end = claim_temporary_folder(root)
    with temporary_folder("rows-"):
        end()
    assert [path.name for path in root.iterdir()] == ["lock"]


def test_only_this_module_creates_temporary_folders() -> None:
    """What others create is not below the home. A `TemporaryFile` has no name and ends with the process."""
    created = re.compile(r"tempfile\.(?!TemporaryFile|gettempdir)|from tempfile")
    modules = [
        path for name in ("retail_core", "flows", "bentos", "app") for path in (ROOT / name).rglob("*.py")
    ]
    found = [str(path.relative_to(ROOT)) for path in modules if created.search(path.read_text())]
    assert found == ["retail_core/temporary_files.py"]


def test_a_forked_process_has_a_folder_of_its_own(root: Path) -> None:
    end = claim_temporary_folder(root)
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    (folder / "rows").write_text("of the parent")
    child = os.fork()
    if not child:
        claim_temporary_folder(root)()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (folder / "rows").read_text() == "of the parent"
    (folder / "rows").unlink()
    end()
    assert [path.name for path in root.iterdir()] == ["lock"]


def test_claims_of_two_homes_end_in_any_order(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    first, second = claim_temporary_folder(root), claim_temporary_folder(other)
    first()
    with temporary_folder("rows-") as folder:
        assert other in folder.parents
    second()


def test_a_root_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    end = claim_temporary_folder(tmp_path / "file" / "tmp")
    with temporary_folder("rows-") as folder:
        assert folder.parent == Path(tempfile.gettempdir())
    end()


def test_a_partial_file_is_noted_only_while_it_is_written(root: Path, tmp_path: Path) -> None:
    end = claim_temporary_folder(root)
    with noted_partial(tmp_path / "a"):
        (note,) = (path for path in root.rglob("partial-*"))
        assert note.readlink() == tmp_path / "a"
    with replace_file(tmp_path / "b") as stream:
        stream.write(b"1")
    assert not list(root.rglob("partial-*"))
    assert (tmp_path / "b").read_bytes() == b"1"
    end()
