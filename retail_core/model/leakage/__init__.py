"""The leakage guard: does a column give the answer away? `docs/leakage.md` has the method."""

from retail_core.model.leakage.evidence import Evidence, from_training
from retail_core.model.leakage.guard import inspect, refuse_leaks
from retail_core.model.leakage.report import Finding, LeakageReport

__all__ = ["Evidence", "Finding", "LeakageReport", "from_training", "inspect", "refuse_leaks"]
