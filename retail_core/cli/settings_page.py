"""Write docs/settings.md from `Settings`: `python -m retail_core.cli.settings_page docs/settings.md`.

Separate from `settings`, which the service imports and which must stay small.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from retail_core.settings import Settings
from retail_core.settings_files import variable_name

_INTRODUCTION = """\
# Settings

Generated from `retail_core/settings.py` by
`python -m retail_core.cli.settings_page docs/settings.md`; do not edit.

Every setting has a default; with none of them set, everything is embedded below the home. A value is taken
from the first of these that has one:

1. the environment variable,
2. `retail.toml` in the working directory,
3. `retail.toml` in the home,
4. the default.

`RETAIL_CONFIG` names one settings file that is read instead of the two; set to nothing, no file is read.
`retail config` shows each setting with its value and where the value comes from; secrets are masked.

```toml
# retail.toml: one `name = value` per line, no tables; an unknown name is an error
timezone = "Europe/Berlin"
horizon_hours = 24
api_keys = ["key-of-the-shop", "key-of-the-crm"]
```

| name in `retail.toml` | environment variable | default | allowed | meaning |
|---|---|---|---|---|
"""

_OTHER_VARIABLES = """
## Variables that are no settings

| environment variable | meaning |
|---|---|
| `RETAIL_CONFIG` | Path of the settings file to read instead of the two usual ones; empty: none. |
| `RETAIL_BENTO_MODEL` | Model to load, `purchase_24h:TAG` in BentoML's store; unset: the newest. |
| `RETAIL_STACK_MARK` | Set by `retail up` for its processes, to recognize them later; do not set it. |
"""

_TYPES: dict[type, str] = {bool: "`true`, `false`", int: "whole number"}


def markdown() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(_rows()) + _OTHER_VARIABLES


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        cells = (
            f"`{name}`",
            f"`{variable_name(name)}`",
            _default(field.default),
            _allowed_values(field),
            field.description or "",
        )
        yield f"| {' | '.join(cells)} |\n"


def _default(default: Any) -> str:
    """The default as it is written in an environment variable."""
    if default is None:
        return "unset"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _allowed_values(field: FieldInfo) -> str:
    """The values that are accepted."""
    limits = {
        sign: getattr(constraint, bound)
        for constraint in field.metadata
        for bound, sign in (("ge", ">="), ("gt", ">"), ("le", "<="))
        if hasattr(constraint, bound)
    }
    if limits:
        return ", ".join(f"{sign} {limit:g}" for sign, limit in limits.items())
    if field.annotation in _TYPES:
        return _TYPES[field.annotation]
    choices = getattr(field.annotation, "__args__", ())
    return ", ".join(f"`{choice}`" for choice in choices if isinstance(choice, str)) or "text"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
