"""A retail population with known true probabilities of buying in the next 24 hours. See docs/simulator.md."""

from __future__ import annotations

from retail_core.simulate.simulation import simulate
from retail_core.simulate.simulation_config import DRIFTS, SimulationConfig, SimulationReport, is_promotion

__all__ = ["DRIFTS", "SimulationConfig", "SimulationReport", "is_promotion", "simulate"]
