"""The `retail` command. Importing this is cheap: what a command needs, it imports when it runs."""

from __future__ import annotations

from retail_core.cli.app import main

__all__ = ["main"]
