"""CSV files of users are accepted or refused as a whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from retail_core.campaigns.plan import draw_stratified_control
from retail_core.campaigns.records import check_name
from retail_core.campaigns.user_lists import read_consent, read_users
from retail_core.csv_export import write_csv
from retail_core.errors import InputError

AT = datetime(2025, 3, 1, tzinfo=UTC)


def test_exported_ids_are_read_as_they_were(tmp_path: Path) -> None:
    users = ["u1", "=1+1", "-5", "'quoted", "ü,x"]
    write_csv(pd.DataFrame({"user_id": users}), tmp_path / "users.csv")
    assert read_users(tmp_path / "users.csv") == users


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nu1\n", "has no column user_id"),
        ("user_id\nu1\n\n,x\n", "line 4, user_id ''"),
        ("user_id\n" + "u" * 600, "line 2, user_id"),
        ("", "has no column user_id"),
    ],
)
def test_a_refused_row_refuses_the_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "users.csv"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_users(path)
    assert message in str(caught.value)


def test_consent_has_a_source_and_a_time(tmp_path: Path) -> None:
    path = tmp_path / "consent.csv"
    path.write_text("user_id,consent,source,at\nu1,yes,form,2025-02-01T00:00:00Z\nu2,No,,\n")
    first, second = read_consent(path, source="file", at=AT)
    assert first == {
        "user_id": "u1",
        "consent": True,
        "source": "form",
        "at": datetime(2025, 2, 1, tzinfo=UTC),
    }
    assert second == {"user_id": "u2", "consent": False, "source": "file", "at": AT}
    path.write_text("user_id,consent\nu1,perhaps\n")
    with pytest.raises(InputError, match="line 2, consent 'perhaps'"):
        read_consent(path, source="file", at=AT)


def test_the_control_group_has_its_share_in_each_stratum_and_differs_between_campaigns() -> None:
    users = pd.Series([f"u{number}" for number in range(1_000)])
    first, second = (draw_stratified_control(users, 0.15, name) for name in ("first", "second"))
    assert first.sum() == second.sum() == 150
    assert {int(first[start : start + 100].sum()) for start in range(0, 1_000, 100)} == {15}
    assert (first & second).sum() < 60
    assert (draw_stratified_control(users, 0.15, "first") == first).all()


@pytest.mark.parametrize("name", ["", " a", "a" * 65, "a/b", "$where", "a\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_name(name)
