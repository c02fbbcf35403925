"""What may be told of an exception that nobody expected."""

from __future__ import annotations

from pathlib import Path
from traceback import extract_tb


def error_location(error: BaseException) -> str:
    """Say what was raised and where, without the message: it could quote a credential."""
    frames = extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
