"""The simulation stays like the real logs where docs/simulator.md says that it is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from retail_core.simulate import SimulationConfig, simulate
from tests.benchmarks import likeness

pytestmark = [pytest.mark.realdata, pytest.mark.long]


@pytest.fixture(scope="module")
def tables(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[likeness.Table, likeness.Table, likeness.Table]:
    """Simulation (smaller than the default), Taobao head, Online Retail."""
    log = tmp_path_factory.mktemp("likeness") / "log.csv"
    simulate(SimulationConfig(users=4_000), log)
    con = duckdb.connect(config={"threads": 2})
    likeness.load_simulation(con, log)
    likeness.load_taobao(con)
    likeness.load_online_retail(con)
    simulated, taobao, retail = (
        likeness.measure(con, table) for table in ("simulation", "taobao", "online_retail")
    )
    return simulated, taobao, retail


@pytest.mark.parametrize(
    ("measure", "place", "factor"),
    [
        ("views per purchase line", 0, 1.5),
        ("carts per purchase line", 0, 2.0),
        ("cart to purchase, hours, mean; quartiles", 2, 2.0),
        ("cart to purchase, hours, mean; quartiles", 3, 1.6),
        ("of these on the same day", 0, 1.6),
        ("sessions per active user-day, mean; quartiles", 0, 1.7),
        ("item events per session, mean; quartiles", 0, 1.3),
        ("item events per session, 99 %", 0, 1.4),
        ("gap within a session, seconds, mean; quartiles", 2, 1.4),
        ("session length, minutes, mean; quartiles", 0, 1.6),
        ("lines bought by the top tenth of buyers", 0, 1.4),
        ("Gini of events per user", 0, 1.5),
    ],
)
def test_a_figure_lies_within_a_factor_of_taobao(
    tables: tuple[likeness.Table, likeness.Table, likeness.Table], measure: str, place: int, factor: float
) -> None:
    simulated, taobao, _ = tables
    ratio = simulated[measure].values[place] / taobao[measure].values[place]
    assert 1 / factor < ratio < factor, (simulated[measure].text, taobao[measure].text)


def test_the_base_rate_is_that_of_an_ordinary_shop(
    tables: tuple[likeness.Table, likeness.Table, likeness.Table],
) -> None:
    """2 to 5 % of the week's active users, as in Online Retail and unlike Taobao's chosen ones."""
    simulated, taobao, retail = (
        table["buyers next day among 7-day-active users"].values[0] for table in tables
    )
    assert 0.02 < simulated < 0.05
    assert 0.02 < retail < 0.05
    assert taobao > 3 * simulated
