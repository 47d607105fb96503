"""The file of API keys: created, listed and removed by `retail keys`."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retail_core.api_keys import (
    ALL_SCOPES,
    Scope,
    add_key,
    client_key,
    configured_keys,
    has_keys,
    key_digest,
    read_keys,
    remove_key,
)
from retail_core.cli.app import app
from retail_core.errors import InputError
from retail_core.settings import Settings

AT = datetime(2025, 1, 29, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.json"


def test_a_created_key_is_stored_as_its_hash_only(file: Path) -> None:
    key = add_key(file, "crm", [Scope.PREDICT, Scope.BATCH], AT)
    assert len(key) == len("retail_") + 43
    assert key != add_key(file, "other", [Scope.EVENTS], AT)
    first, second = read_keys(file)
    assert (first.name, first.scopes, first.created) == ("crm", {Scope.PREDICT, Scope.BATCH}, AT)
    assert first.digest == key_digest(key.encode())
    assert second.name == "other"
    assert key.removeprefix("retail_") not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_removed_key_is_gone_and_the_others_stay(file: Path) -> None:
    for name in ("a", "b"):
        add_key(file, name, [Scope.PREDICT], AT)
    assert remove_key(file, "a") == 1
    assert [key.name for key in read_keys(file)] == ["b"]
    with pytest.raises(InputError, match="no key named a"):
        remove_key(file, "a")
    assert remove_key(file, "b") == 0
    assert file.exists()


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 64, "local", "settings-1", "a/b", "ä"])
def test_a_name_that_logs_cannot_hold_is_refused(file: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        add_key(file, name, [Scope.PREDICT], AT)
    assert not file.exists()


def test_a_taken_name_and_a_key_without_scopes_are_refused(file: Path) -> None:
    add_key(file, "crm", [Scope.PREDICT], AT)
    with pytest.raises(InputError, match="named crm already"):
        add_key(file, "crm", [Scope.ADMIN], AT)
    with pytest.raises(InputError, match="no scope"):
        add_key(file, "other", [], AT)
    assert len(read_keys(file)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(file: Path, mode: int) -> None:
    add_key(file, "crm", [Scope.PREDICT], AT)
    file.chmod(mode)
    with pytest.raises(InputError, match=f"mode {mode:04o}") as refused:
        read_keys(file)
    assert "chmod 600" in refused.value.remedy


ENTRY = {"name": "a", "sha256": "0" * 64, "scopes": ["predict"], "created": None}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"format": 2, "keys": []}',
        '{"format": 1, "keys": [1]}',
        json.dumps({"format": 1, "keys": [ENTRY | {"scopes": ["root"]}]}),
        json.dumps({"format": 1, "keys": [ENTRY | {"sha256": "secret"}]}),
        json.dumps({"format": 1, "keys": [ENTRY | {"name": "a\nb"}]}),
        json.dumps({"format": 1, "keys": [ENTRY | {"created": "today"}]}),
        json.dumps({"format": 1, "keys": [ENTRY, ENTRY]}),
    ],
)
def test_a_damaged_file_is_one_error(file: Path, content: str) -> None:
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(InputError, match="file of API keys"):
        read_keys(file)


def test_keys_that_are_added_at_the_same_time_are_all_stored(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_key(file, f"k{number}", [Scope.PREDICT], AT), range(20)))
    assert len(read_keys(file)) == 20


def test_keys_of_the_settings_have_all_scopes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, api_keys="one, two,")
    assert [(key.name, key.scopes) for key in configured_keys(settings)] == [
        ("settings-1", ALL_SCOPES),
        ("settings-2", ALL_SCOPES),
    ]
    assert client_key(settings) == "one"
    assert client_key(settings.model_copy(update={"api_keys": None})) == ""
    assert client_key(Settings(home=tmp_path, api_keys="one", client_key="mine")) == "mine"


def test_a_key_of_the_settings_or_of_the_file_is_a_key(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert not has_keys(settings)
    assert has_keys(Settings(home=tmp_path, api_keys="one"))
    add_key(settings.api_keys_path, "crm", [Scope.PREDICT], AT)
    assert has_keys(settings)


def test_the_commands_show_a_key_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_HOME", str(tmp_path))
    run = CliRunner()
    added = run.invoke(app, ["keys", "add", "crm", "--scope", "predict", "--scope", "batch", "--json"])
    result = json.loads(added.stdout)
    assert result["scopes"] == ["batch", "predict"]
    listed = json.loads(run.invoke(app, ["keys", "list", "--json"]).stdout)
    assert [(row["name"], row["scopes"]) for row in listed["keys"]] == [("crm", ["batch", "predict"])]
    assert result["key"] not in json.dumps(listed)
    plain = run.invoke(app, ["keys", "add", "shop", "--scope", "events"])
    assert plain.stdout.splitlines() == [plain.stdout.strip()]
    assert plain.stdout.startswith("retail_")
    assert "shop" in run.invoke(app, ["keys", "list"]).stdout
    assert json.loads(run.invoke(app, ["keys", "remove", "crm", "--json"]).stdout)["remaining"] == 1
    assert run.invoke(app, ["keys", "add", "x", "--scope", "root"]).exit_code == 2
    assert run.invoke(app, ["keys", "add", "x"]).exit_code == 2
