"""CSV exports: no formulas, complete or absent."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.csv_export import FORMULA_PREFIXES, escape_formula, require_parent_folder, write_csv
from retail_core.errors import InputError

texts = st.text(st.sampled_from([*FORMULA_PREFIXES, "'", " ", ",", '"', "a", "1", "é"]), max_size=5)


@given(texts)
def test_an_escaped_cell_is_no_formula_and_its_text_can_be_recovered(text: str) -> None:
    escaped = escape_formula(text)
    assert isinstance(escaped, str)
    assert not escaped.startswith(FORMULA_PREFIXES)
    assert escaped == (f"'{text}" if text.startswith(FORMULA_PREFIXES) else text)


@given(st.one_of(st.integers(), st.floats(), st.none(), st.booleans()))
def test_only_text_is_escaped(value: object) -> None:
    assert escape_formula(value) is value


@given(users=st.lists(texts, min_size=1, max_size=6))
def test_every_written_cell_is_the_escaped_text(
    users: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("export") / "users.csv"
    write_csv(pd.DataFrame({"user_id": pd.Series(users, dtype="str"), "rank": range(len(users))}), path)
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert rows[1:] == [[str(escape_formula(user)), str(rank)] for rank, user in enumerate(users)]


def test_a_csv_has_no_formula_and_no_unfinished_file_beside_it(tmp_path: Path) -> None:
    users = ["=1+1", "+49", "-2", "@sum", "\tx", "\rx", "\nx", "plain", "a=b", 'quo"te,d', ""]
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(users, dtype="str"),
            "probability": np.linspace(-0.5, 1, len(users)),
            "as_of": pd.Series([pd.Timestamp("2025-01-01", tz="UTC")] * len(users)).dt.as_unit("ms"),
        }
    )
    path = tmp_path / "scores.csv"
    assert write_csv(frame, path) == len(users)
    back = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert back["user_id"].tolist() == ["'=1+1", "'+49", "'-2", "'@sum", "'\tx", "'\rx", "'\nx", *users[7:]]
    assert back["probability"].astype(float).tolist() == frame["probability"].tolist()
    assert set(back["as_of"]) == {"2025-01-01T00:00:00Z"}
    assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]


def test_a_csv_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file where a folder is expected")
    for path in (tmp_path / "folder" / "scores.csv", tmp_path / "misspelt" / "scores.csv"):
        for write in (require_parent_folder, partial(write_csv, pd.DataFrame({"user_id": ["u"]}))):
            with pytest.raises(InputError, match="cannot be written"):
                write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
