"""Commands, options, settings, modules and paths that the documentation names exist in the code."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from retail_core.cli.app import app
from retail_core.cli.settings_page import markdown
from retail_core.settings import Settings
from retail_core.settings_files import variable_name

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
)
CODE = re.compile(r"```[a-z]*\n(?P<block>.*?)```|`(?P<inline>[^`\n]+)`", re.DOTALL)
VARIABLE = re.compile(r"\b(?:RETAIL_[A-Z_]*[A-Z]|MLFLOW_TRACKING_URI|PREFECT_API_URL|BENTOML_HOME)\b")
REPOSITORY_PATH = re.compile(
    r"^(?:retail_core|flows|bentos|app|tests|docs|docker|tools)/[\w/.-]*$|^[\w-]+\.(?:toml|yaml|yml)$"
)
CREATED_BY_USERS = {"mapping.yaml", "retail.toml", "shop.yaml", "docs/decisions/NNNN-title.md"}


def code_lines(page: str) -> Iterator[str]:
    """Lines of code blocks and inline code, without comments."""
    for match in CODE.finditer((ROOT / page).read_text()):
        for line in (match["block"] or match["inline"]).splitlines():
            yield line.partition(" #")[0].strip()


def retail_commands(page: str) -> Iterator[list[str]]:
    """The words after `retail` of every command line; optional parts without their brackets."""
    for line in code_lines(page):
        match = re.search(r"(?:^|\s|bin/)retail (?P<words>[a-z].*)$", line)
        if match and " / " not in line and "=" not in match["words"].split()[0]:
            yield shlex.split(match["words"].replace("[", "").replace("]", ""))


def unknown_words(words: list[str]) -> list[str]:
    """Words of a command line that name no command or option of `retail`."""
    command = typer.main.get_command(app)
    unknown = []
    for word in words:
        commands = getattr(command, "commands", {})
        if word.startswith("--"):
            options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            unknown += [word] if word.split("=")[0] not in options | {"--help"} else []
        elif commands:
            if word not in commands:
                return [word]
            command = commands[word]
    return unknown


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page: str) -> None:
    assert [words for words in retail_commands(page) if unknown_words(words)] == []


@pytest.mark.parametrize("command", ["no-such-command", "train --no-such-option", "models no-such-command"])
def test_an_unknown_command_or_option_is_noticed(command: str) -> None:
    assert unknown_words(command.split())
    assert unknown_words(["models", "rollback", "--json"]) == []


def test_the_documentation_shows_every_command() -> None:
    shown = {words[0] for page in PAGES for words in retail_commands(page)}
    assert set(getattr(typer.main.get_command(app), "commands")) - shown == set()  # noqa: B009 - untyped


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_paths_exist(page: str) -> None:
    lines = list(code_lines(page))
    modules = [match[1] for line in lines for match in re.finditer(r"python -m ([\w.]+)", line)]
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    paths = [line for line in lines if REPOSITORY_PATH.match(line) and line not in CREATED_BY_USERS]
    assert [
        path for path in paths if not (ROOT / path).exists() and not (ROOT / "retail_core" / path).exists()
    ] == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = [match[1] for line in code_lines(page) if (match := re.match(r"make ([a-z-]+)", line))]
    assert [target for target in used if target not in targets] == []


def test_the_page_of_settings_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == markdown(), "run: python -m retail_core.cli.settings_page docs/settings.md"
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_settings_or_explained_on_the_page_of_settings(page: str) -> None:
    explained = set(re.findall(r"^\| `([A-Z_]+)` \|", markdown(), re.MULTILINE))
    explained |= {variable_name(name) for name in Settings.model_fields}
    used = set(VARIABLE.findall((ROOT / page).read_text()))
    assert used - explained == set()
