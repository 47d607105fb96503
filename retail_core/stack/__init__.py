"""The stack of services on one machine: start, stop, status, diagnosis."""

from __future__ import annotations

from retail_core.stack.commands import down, status, up
from retail_core.stack.doctor import doctor

__all__ = ["doctor", "down", "status", "up"]
