"""The leakage guard: does a column reveal the label? `docs/leakage.md` describes the method."""

from retail_core.model.leakage.guard_data import GuardData, guard_data_from_training
from retail_core.model.leakage.inspection import inspect_leakage, refuse_leaks
from retail_core.model.leakage.leakage_report import Finding, LeakageReport

__all__ = [
    "Finding",
    "GuardData",
    "LeakageReport",
    "guard_data_from_training",
    "inspect_leakage",
    "refuse_leaks",
]
