"""Settings come from the environment, `./retail.toml`, the home's `retail.toml`, or the defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retail_core.cli.app import app
from retail_core.errors import InputError
from retail_core.settings import Settings, load_settings, setting_origins
from retail_core.settings_files import variable_name


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_name(name), raising=False)
    monkeypatch.delenv("RETAIL_CONFIG", raising=False)


def origin_of(name: str) -> str:
    return next(setting.origin for setting in setting_origins() if setting.name == name)


def test_every_setting_has_its_default_without_files_and_variables() -> None:
    assert load_settings() == Settings()
    assert {setting.origin for setting in setting_origins()} == {"default"}


def test_the_environment_overrides_the_working_directory_which_overrides_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "shop"
    home.mkdir()
    (home / "retail.toml").write_text("horizon_hours = 48\neligible_days = 14\nseed = 1\n")
    (tmp_path / "retail.toml").write_text('home = "shop"\neligible_days = 28\nseed = 2\n')
    monkeypatch.setenv("RETAIL_SEED", "3")
    settings = load_settings()
    assert (settings.horizon_hours, settings.eligible_days, settings.seed) == (48, 28, 3)
    assert settings.home_dir == home
    assert origin_of("horizon_hours") == str(home / "retail.toml")
    assert origin_of("eligible_days") == origin_of("home") == str(tmp_path / "retail.toml")
    assert (origin_of("seed"), origin_of("timezone")) == ("environment", "default")


def test_a_named_file_replaces_the_usual_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "retail.toml").write_text("seed = 2\n")
    (tmp_path / "other.toml").write_text("seed = 4\n")
    monkeypatch.setenv("RETAIL_CONFIG", "other.toml")
    assert load_settings().seed == 4
    monkeypatch.setenv("RETAIL_CONFIG", "")
    assert load_settings().seed == Settings().seed


def test_variables_of_other_programs_override_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "retail.toml").write_text('mlflow_tracking_uri = "http://a:5000"\n')
    assert load_settings().mlflow_tracking_uri == "http://a:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b:5000")
    assert load_settings().mlflow_tracking_uri == "http://b:5000"


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        ("horizon_hour = 24\n", "'horizon_hour', which is not a setting", "write horizon_hours"),
        ("horizon_hours = 'soon'\n", "horizon_hours in", "correct or remove horizon_hours in"),
        ("horizon_hours = 0\n", "greater than or equal to 1", "correct or remove"),
        ("[horizon]\nhours = 3\n", "'horizon', which is not a setting", "retail config"),
        ("[seed]\nvalue = 3\n", "seed in", "without tables"),
        ("seed = \n", "cannot be read", "correct or remove the file"),
        ("\udcff", "cannot be read", "correct or remove the file"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: str, message: str, remedy: str) -> None:
    (tmp_path / "retail.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load_settings()
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert str(tmp_path / "retail.toml") in caught.value.message


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_HORIZON_HOURS", "soon")
    with pytest.raises(InputError, match="RETAIL_HORIZON_HOURS is not usable"):
        load_settings()


def test_config_prints_every_setting_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "retail.toml").write_text('api_keys = ["abc", "def"]\nmongodb_uri = "mongodb://u:pw@h/"\n')
    keys = load_settings().api_keys
    assert keys is not None
    assert keys.get_secret_value() == "abc,def"
    printed = CliRunner().invoke(app, ["config", "--json"]).stdout
    rows = {row["name"]: row for row in json.loads(printed)["settings"]}
    assert set(rows) == set(Settings.model_fields)
    assert rows["api_keys"]["origin"] == str(tmp_path / "retail.toml")
    assert not {"abc", "pw"} & set(printed.replace('"', " ").replace(":", " ").split())
    assert "pw@" not in printed
    assert "api_keys" in CliRunner().invoke(app, ["config"], env={"COLUMNS": "200"}).stdout
