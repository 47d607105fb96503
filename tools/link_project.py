"""Add the repository to the environment's path and install the command `retail`; builds no package."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

Path(sysconfig.get_path("purelib"), "retail_project.pth").write_text(f"{ROOT}\n", encoding="utf-8")
command = Path(sysconfig.get_path("scripts"), "retail")
command.write_text(
    f"#!{sys.executable}\nfrom retail_core.cli import main\n\nmain()\n",
    encoding="utf-8",
)
command.chmod(0o755)
