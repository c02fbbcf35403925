"""What a log may say about an unexpected exception."""

from __future__ import annotations

from pathlib import Path
from traceback import extract_tb


def error_location(error: BaseException) -> str:
    """Return the exception's type, file and line, without its message, which may quote a secret."""
    frames = extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
