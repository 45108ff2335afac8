"""Values that JSON can hold."""

from __future__ import annotations

import math
from typing import Any


def json_value(value: Any) -> Any:
    """The value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: json_value(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
