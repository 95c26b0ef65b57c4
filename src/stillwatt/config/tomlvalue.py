"""Python values as TOML would write them, for messages and the reference."""

from __future__ import annotations

import json
from typing import Any


def toml_value(value: Any) -> str:
    """A value as TOML text; tables as inline tables.

    >>> toml_value({"on": True, "seeds": (1, 2)})
    '{on = true, seeds = [1, 2]}'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(entry) for entry in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)
