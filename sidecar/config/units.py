"""How durations and sizes are written: a number and a unit, never a bare number of seconds."""

from __future__ import annotations

import re

from sidecar.config.diagnostics import Rejected

_DURATION = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)?")

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_WRITE_DURATION = "write it like 500ms, 3s, 5m, 1h or 14d"
_WRITE_SIZE = "write it like 16KiB, 1MiB, 2GiB or a plain number of bytes"

MAX_DURATION_SECONDS = 36500 * 86400.0
"""A hundred years: more is a typing mistake, and timers would overflow."""

DURATION_PATTERN = r"^(0|[0-9]{1,13}(\.[0-9]{1,6})?(ms|s|m|h|d))$"
SIZE_PATTERN = r"^[0-9]{1,12}(B|KiB|MiB|GiB)?$"


def parse_duration(value: object) -> float:
    """Return the seconds of ``500ms``, ``3s``, ``1.5m``, ``1h``, ``14d`` or a plain ``0``.

    Raises ``Rejected`` with what was expected. A number without a unit is refused unless it is 0.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _parse_bare_number(value)
    if not isinstance(value, str):
        raise Rejected("is not a duration", _WRITE_DURATION)
    if value == "0":
        return 0.0
    match = _DURATION.fullmatch(value)
    if match is None:
        raise Rejected("is not a duration", _WRITE_DURATION, value)
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_DURATION_SECONDS:
        raise Rejected("is more than 36500d", "write a shorter duration", value)
    return seconds


def _parse_bare_number(value: float) -> float:
    if value == 0:
        return 0.0
    raise Rejected("is a duration without a unit", f"write {value}s if seconds are meant", value)


def parse_size(value: object) -> int:
    """Return the bytes of ``16KiB``, ``1MiB``, ``2GiB``, ``512B`` or a plain number.

    Raises ``Rejected`` with what was expected. Decimal units (``16KB``) are refused.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Rejected("is not a size", _WRITE_SIZE)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise Rejected("is not a size", _WRITE_SIZE, value)
    return int(match[1]) * _BYTES[match[2] or "B"]


def format_duration(seconds: float) -> str:
    """Return the shortest text that ``parse_duration`` reads back as ``seconds``."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(seconds, _SECONDS[unit])
        if rest == 0:
            return f"{count:.0f}{unit}"
    return f"{round(seconds * 1000, 6):f}".rstrip("0").rstrip(".") + "ms"


def format_size(size_bytes: int) -> str | int:
    """Return the size as the file has it: in the largest unit that divides it, or in bytes."""
    for unit in ("GiB", "MiB", "KiB"):
        count, rest = divmod(size_bytes, _BYTES[unit])
        if count and not rest:
            return f"{count}{unit}"
    return size_bytes
