"""A retail population with known true probabilities of buying in the next 24 hours. See docs/simulator.md."""

from __future__ import annotations

from retail_core.simulate.config import DRIFTS, SimulationConfig, SimulationReport, is_promotion
from retail_core.simulate.run import simulate

__all__ = ["DRIFTS", "SimulationConfig", "SimulationReport", "is_promotion", "simulate"]
