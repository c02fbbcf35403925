"""Which configuration is in force: that of the file, once the file is valid as a whole.

The file and every file that it names are checked twice a second, through symbolic links, so that
the swap of a Kubernetes ConfigMap is a change like any other. A change is read once the files have
been still from one check to the next, as editors and tools write in several steps; SIGHUP reads at
once. Files are read in a thread. An invalid file changes nothing. It is reported in the log, one
line for each problem, and in ``state``, where readiness and metrics find it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sidecar.config.differences import (
    content_differences,
    contents_of,
    differences,
    needs_restart,
)
from sidecar.config.load import load
from sidecar.config.settings import Settings
from sidecar.config.warnings import ConfigurationWarning
from sidecar.core.error_location import error_location
from sidecar.core.errors import ConfigurationError, UsageError
from sidecar.proxy.rules import Rules

_log = logging.getLogger("sidecar")

_CHECK_SECONDS: Final = 0.5
_MOST_LINES: Final = 100

Stamp = tuple[int, ...] | None
"""Identifies one state of a file; ``None``: there is no such file."""


@dataclass(frozen=True, slots=True)
class Change:
    """A valid configuration that is to replace the one in force."""

    old: Settings
    new: Settings
    changed_files: frozenset[str]
    """Keys, such as ``listen.tls.certificate``, whose file has changed."""

    def has_other_files(self, section: str) -> bool:
        """Return whether a file that ``section`` names has changed."""
        return any(key.startswith(f"{section}.") for key in self.changed_files)


@dataclass(frozen=True, slots=True)
class _LoadedFiles:
    """The result of reading all files."""

    change: Change
    contents: Mapping[str, str]
    differences: tuple[str, ...]
    needs_restart: tuple[str, ...]
    warnings: tuple[ConfigurationWarning, ...]


Commit = Callable[[], Rules]
"""Puts a prepared change in force, on the event loop; can't fail. Returns the new rules."""


@dataclass(frozen=True, slots=True)
class ReloadState:
    """How the configuration in force relates to the file."""

    generation: int
    """1 at the start; each change adds one."""
    loaded_at: float
    """Unix time at which the configuration in force was loaded."""
    problems: tuple[str, ...] = ()
    """What is wrong with the file; empty if the file is in force."""
    needs_restart: tuple[str, ...] = ()
    """Keys that differ in the file, and whose change needs a restart."""
    refused: int = 0
    """How often a file has been refused since the start."""

    @property
    def is_valid(self) -> bool:
        """Whether the file, as last read, is in force."""
        return not self.problems

    def describe(self) -> dict[str, object]:
        """Return the state as values for JSON, without secrets."""
        return {
            "valid": self.is_valid,
            "problems": list(self.problems),
            "generation": self.generation,
            "loaded_at": datetime.fromtimestamp(int(self.loaded_at), UTC).isoformat(),
            "needs_restart": list(self.needs_restart),
        }


class Reloader:
    """Holds the settings in force and replaces them when their files change.

    The callbacks in ``on_applied`` get the new rules after each change, so that exchanges that
    began under the old rules can be judged again.
    """

    def __init__(
        self,
        source: Path,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        check_seconds: float = _CHECK_SECONDS,
        generation: int = 1,
        refused: int = 0,
        logs_details: bool = True,
    ) -> None:
        """Note the state of the files. Call this before anything is made of ``settings``.

        ``settings`` were just read from ``source``; the first check finds any change made since.
        ``generation`` and ``refused`` are the initial counts. Of several processes that follow the
        same file, one ``logs_details``.
        """
        self.settings = settings
        self.on_applied: list[Callable[[Rules], None]] = []
        self.state = ReloadState(generation=generation, loaded_at=time.time(), refused=refused)
        self._logs_details = logs_details
        self._source = source
        self._environ = environ
        self._check_seconds = check_seconds
        self._started_with = settings
        self._asked = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._stamps: dict[Path, Stamp] = {}
        if not self._is_read_from_source():
            self._stamps[source] = ()  # no file has this stamp, so the next check sees a change
        self._contents: Mapping[str, str] = contents_of(settings)
        self._seen = self._stamps

    def __repr__(self) -> str:
        return f"<Reloader {self._source} generation={self.state.generation}>"

    def ask(self) -> None:
        """Have the file read now, changed or not."""
        self._asked.set()

    async def read_now(self) -> None:
        """Read the file, changed or not; return once it is applied or refused."""
        read = asyncio.get_running_loop().create_future()
        self._waiters.append(read)
        self.ask()
        await read

    async def watch(self, prepare: Callable[[Change], Commit]) -> None:
        """Apply changes until cancelled.

        ``prepare`` makes all parts that a change needs, without touching those in use. It runs in a
        thread, and raises ``UsageError`` if a part can't be made.
        """
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._check_seconds)
            is_asked = self._asked.is_set()
            self._asked.clear()
            waiters, self._waiters = self._waiters, []
            if is_asked or await self._has_changed_and_is_still():
                await self._reload(prepare, is_asked)
            for read in waiters:
                if not read.done():
                    read.set_result(None)

    def _is_read_from_source(self) -> bool:
        try:
            return load(self._source, self._environ, _note_into(self._stamps)) == self.settings
        except UsageError:
            return False

    async def _has_changed_and_is_still(self) -> bool:
        stamps = await asyncio.to_thread(_stamps_of, list(self._stamps))
        is_still = stamps == self._seen
        self._seen = stamps
        return is_still and stamps != self._stamps

    async def _reload(self, prepare: Callable[[Change], Commit], is_asked: bool) -> None:
        """Read the files and apply them as a whole, or not at all."""
        before = await asyncio.to_thread(_stamps_of, list(self._stamps))
        noted: dict[Path, Stamp] = {}
        rules: Rules | None = None
        try:
            rules = await self._read_and_apply(prepare, noted, is_asked)
        except ConfigurationError as error:
            self._refuse(error.problems)
        except UsageError as error:
            self._refuse([f"{self._source}: {error}"])
        except Exception as error:
            # The old configuration stays, whatever the error. Its message could quote a secret.
            self._refuse([f"{self._source}: loading it failed ({error_location(error)})"])
        else:
            before = {}
        # An invalid file may not name all of its files: keep checking those of the one in force.
        self._stamps = self._seen = before | noted
        if rules is not None:
            self._notify(rules)

    def _notify(self, rules: Rules) -> None:
        """Call all callbacks, even if one fails: the watch for changes must continue."""
        for callback in self.on_applied:
            try:
                callback(rules)
            except Exception as error:
                _log.error("a callback after a reload failed: %s", error_location(error))

    async def _read_and_apply(
        self, prepare: Callable[[Change], Commit], noted: dict[Path, Stamp], is_asked: bool
    ) -> Rules | None:
        """Return the new rules, or ``None`` if nothing had changed. Raises ``UsageError``."""
        loaded = await asyncio.to_thread(self._read, noted)
        change = loaded.change
        if change.new == change.old and not change.changed_files:
            self._stay(is_asked)
            return None
        commit = await asyncio.to_thread(prepare, change)
        rules = commit()
        self.settings, self._contents = change.new, loaded.contents
        self._applied(loaded)
        return rules

    def _read(self, noted: dict[Path, Stamp]) -> _LoadedFiles:
        """Read and compare everything; runs in a thread, as long lists take a while to compare."""
        warnings: list[ConfigurationWarning] = []
        warn = warnings.append if self._logs_details else None
        new = load(self._source, self._environ, _note_into(noted), warn=warn)
        contents = contents_of(new)
        changed = content_differences(self._contents, contents)
        return _LoadedFiles(
            Change(self.settings, new, frozenset(changed)),
            contents,
            (*differences(self.settings, new), *changed.values()),
            tuple(needs_restart(self._started_with, new)),
            tuple(warnings),
        )

    # State and log.

    def _applied(self, loaded: _LoadedFiles) -> None:
        generation = self.state.generation + 1
        self.state = replace(
            self.state,
            generation=generation,
            loaded_at=time.time(),
            problems=(),
            needs_restart=loaded.needs_restart,
        )
        if not self._logs_details:
            return
        _log.info("configuration %s reloaded, generation %d", self._source, generation)
        for line in loaded.differences[:_MOST_LINES]:
            _log.info("configuration: %s", line)
        if len(loaded.differences) > _MOST_LINES:
            _log.info(
                "configuration: and %d more differences", len(loaded.differences) - _MOST_LINES
            )
        for key in loaded.needs_restart:
            _log.warning(
                "configuration: %s has changed in the file: the change needs a restart", key
            )
        log_warnings(loaded.warnings)

    def _stay(self, is_asked: bool) -> None:
        if not self._logs_details:
            pass
        elif not self.state.is_valid:
            _log.info("configuration %s is valid again: nothing changed", self._source)
        elif is_asked:
            _log.info("configuration %s read again: nothing changed", self._source)
        self.state = replace(self.state, problems=())

    def _refuse(self, problems: list[str]) -> None:
        self.state = replace(self.state, problems=tuple(problems), refused=self.state.refused + 1)
        for problem in problems[:_MOST_LINES] if self._logs_details else ():
            _log.error("configuration: %s", problem)
        _log.error(
            "configuration %s not reloaded: generation %d stays in force",
            self._source,
            self.state.generation,
        )


def log_warnings(warnings: Sequence[ConfigurationWarning]) -> None:
    """Log what is probably not meant in a valid configuration."""
    for warning in warnings[:_MOST_LINES]:
        _log.warning("configuration: %s", warning.sentence)
    if len(warnings) > _MOST_LINES:
        _log.warning("configuration: and %d more warnings", len(warnings) - _MOST_LINES)


def _note_into(stamps: dict[Path, Stamp]) -> Callable[[Path], None]:
    """Return a callback that notes the first stamp of each file that is read."""

    def note(path: Path) -> None:
        if path not in stamps:
            stamps[path] = _stamp_of(path)

    return note


def _stamps_of(paths: list[Path]) -> dict[Path, Stamp]:
    return {path: _stamp_of(path) for path in paths}


def _stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file, behind all symbolic links; its permissions are part of it."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
