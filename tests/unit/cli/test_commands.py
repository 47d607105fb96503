"""What a person or a script sees of the command line without any data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from retail_core.cli.app import app
from tests.command_line import retail, retail_process


def command_names(command: Any, prefix: str = "") -> Iterator[str]:
    """Every command below `command`, with the names of its groups."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from command_names(child, f"{prefix}{name} ")
        else:
            yield prefix + name


@pytest.mark.parametrize("command", sorted(command_names(typer.main.get_command(app))))
def test_every_command_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "Example: retail" in shown.stdout


def test_usage_errors_exit_with_two(tmp_path: Path) -> None:
    assert retail_process("train", "--no-such-option", home=tmp_path).returncode == 2
    assert retail("no-such-command", home=tmp_path).returncode == 2


def test_a_setting_that_is_not_allowed_is_one_line_and_exit_one(tmp_path: Path) -> None:
    done = retail("score", "--json", home=tmp_path, RETAIL_HORIZON_HOURS="soon")
    assert done.returncode == 1
    assert "RETAIL_HORIZON_HOURS" in json.loads(done.stdout)["error"]
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unreachable_mongodb_exits_with_three_and_keeps_its_password_to_itself(tmp_path: Path) -> None:
    uri = "mongodb://someone:s3cret@127.0.0.1:9/?serverSelectionTimeoutMS=300"
    done = retail("score", home=tmp_path, RETAIL_MONGODB_URI=uri)
    assert done.returncode == 3
    assert "s3cret" not in done.stdout + done.stderr
    assert "Remedy:" in done.stderr


def test_user_delete_erases_nothing_unasked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = retail("user", "delete", "u1", "--json", home=home)
    assert done.returncode == 1
    assert json.loads(done.stdout)["remedy"] == "give --yes as well."
    assert not home.exists()


def test_doctor_ends_with_1_where_a_check_fails(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert retail("doctor", home=home).returncode == 0
    file = tmp_path / "taken"
    file.write_text("a file")
    done = retail("doctor", "--json", home=file / "home")
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False
