"""What an embedded store has on disk, and what to do if it can't be used or is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sidecar.core.errors import UsageError

PLACED: Final = b"beside its configuration\n"
"""What the lock's file says since data lies there; that of an earlier version is empty."""

_LOCK: Final = "lock"
_OF_REDIS: Final = ("appendonlydir", "appendonly.aof", "dump.rdb")
_EXAMPLE: Final = "/var/lib/auth-sidecar/data"


def has_data(directory: Path) -> bool:
    """Tell whether the directory holds a store."""
    return any(_exists(directory / name) for name in _OF_REDIS)


def refuse_left_behind(directory: Path, current: Path) -> None:
    """Raise ``UsageError`` if a store would begin although an earlier version left one.

    Earlier versions kept their data in ``data`` of the current directory, wherever the
    configuration was.
    """
    old = _left_behind(directory, current)
    if old is not None:
        raise UsageError(
            f"an embedded store keeps its data beside the configuration file now, in {directory}, "
            f"and an earlier version left tokens in {old}; {_how_to_take(old, directory)}"
        )


def no_store(directory: Path, current: Path) -> UsageError:
    """Return the error of a command that finds no store: it begins none."""
    try:
        os.listdir(directory)
    except PermissionError:
        return UsageError(
            f"{directory}: this user may not look into it; run the command as the sidecar's user"
        )
    except OSError:
        pass  # it is not there
    old = _left_behind(directory, current)
    why = f"store.url is embedded, and there is no store in {directory}"
    if old is not None:
        return UsageError(
            f"{why}; an earlier version left one in {old}: {_how_to_take(old, directory)}"
        )
    return UsageError(
        f"{why}; start `sidecar run`, or name the configuration that it runs with (--config)"
    )


def unusable(directory: Path, error: OSError) -> UsageError:
    """Return the error of a directory that can't be made, or be written."""
    return UsageError(
        f"{directory}: cannot keep the tokens here: {error.strerror}; let the sidecar's user write "
        f"it, make it a link to a directory that it may write (ln -s {_EXAMPLE} {directory}), or "
        "point store.url to a Redis"
    )


def _left_behind(directory: Path, current: Path) -> Path | None:
    old = current.absolute() / "data"
    is_old = has_data(old) and _read(old / _LOCK) == b""
    return old if is_old and not has_data(directory) and not _is_same(old, directory) else None


def _how_to_take(old: Path, new: Path) -> str:
    return f"link them (ln -s {old} {new}), or stop the sidecar and move them (mv {old} {new})"


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a directory on the way that we may not search
        return False
