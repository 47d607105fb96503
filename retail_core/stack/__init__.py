"""The whole stack on one machine: start, stop, look, diagnose."""

from __future__ import annotations

from retail_core.stack.commands import down, status, up

__all__ = ["down", "status", "up"]
