"""Which configuration is in force: the file's, from the moment that the file is wholly valid on.

The file and every file that it names are looked at twice a second, through symbolic links, so that
the swap of a Kubernetes ConfigMap is a change like any other. A change is read once it has come to
rest for one look, as editors and tools write in several steps; SIGHUP reads at once. Reading and
loading happen in a thread. What is faulty changes nothing and is said: in the log, one line for
each problem, and in ``state``, from where readiness and metrics have it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
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
from sidecar.core.error_location import error_location
from sidecar.core.errors import ConfigurationError, UsageError
from sidecar.proxy.rules import Rules

_log = logging.getLogger("sidecar")

_LOOK_SECONDS: Final = 0.5
_MOST_LINES: Final = 100

Stamp = tuple[int, ...] | None
"""What tells one state of a file from another; ``None``: it is not there."""


@dataclass(frozen=True, slots=True)
class Change:
    """A valid configuration that is to replace another."""

    old: Settings
    new: Settings
    changed_files: frozenset[str]
    """Keys, such as ``listen.tls.certificate``, whose file holds something else than before."""

    def has_other_files(self, section: str) -> bool:
        """Tell whether a file that ``section`` names holds something else than before."""
        return any(key.startswith(f"{section}.") for key in self.changed_files)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one reading of all files came to."""

    change: Change
    contents: Mapping[str, str]
    told: tuple[str, ...]
    needs_restart: tuple[str, ...]


Commit = Callable[[], Rules]
"""Makes a prepared change effective, on the event loop and without fail; returns the new rules."""


@dataclass(frozen=True, slots=True)
class ReloadState:
    """How the configuration in force relates to the file."""

    generation: int
    """1 at the start, one more with each change."""
    loaded_at: float
    """Unix time at which the configuration in force was loaded."""
    problems: tuple[str, ...] = ()
    """What is wrong with the file; empty: the file is in force."""
    needs_restart: tuple[str, ...] = ()
    """Keys that the file has otherwise and that wait for a restart."""
    refused: int = 0
    """How often a file was refused since the start."""

    @property
    def is_valid(self) -> bool:
        """Tell whether the file, as last read, is in force."""
        return not self.problems

    def describe(self) -> dict[str, object]:
        """Return it as JSON has it; holds no secret."""
        return {
            "valid": self.is_valid,
            "problems": list(self.problems),
            "generation": self.generation,
            "loaded_at": datetime.fromtimestamp(int(self.loaded_at), UTC).isoformat(),
            "needs_restart": list(self.needs_restart),
        }


class Reloader:
    """Holds the settings in force and replaces them when their files change.

    ``on_applied`` are called after each change with the new rules, so that what began under the
    old ones can be judged again.
    """

    def __init__(
        self,
        source: Path,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        look_seconds: float = _LOOK_SECONDS,
        generation: int = 1,
        refused: int = 0,
        tells_all: bool = True,
    ) -> None:
        """Note how the files are now; call it before anything is made of ``settings``.

        ``settings`` were read from ``source`` a moment ago. Should the file have changed since, the
        first look finds it. ``generation`` and ``refused`` are where the counts begin. Of several
        processes that follow the same file, one ``tells_all`` in the log.
        """
        self.settings = settings
        self.on_applied: list[Callable[[Rules], None]] = []
        self.state = ReloadState(generation=generation, loaded_at=time.time(), refused=refused)
        self._tells_all = tells_all
        self._source = source
        self._environ = environ
        self._look_seconds = look_seconds
        self._started_with = settings
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._stamps: dict[Path, Stamp] = {}
        if not self._is_read_from_source():
            self._stamps[source] = ()  # which no file ever has
        self._contents: Mapping[str, str] = contents_of(settings)
        self._seen = self._stamps

    def __repr__(self) -> str:
        return f"<Reloader {self._source} generation={self.state.generation}>"

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def read_now(self) -> None:
        """Read the file, changed or not; return once it is applied or refused."""
        read = asyncio.get_running_loop().create_future()
        self._waiting.append(read)
        self.ask()
        await read

    async def watch(self, prepare: Callable[[Change], Commit]) -> None:
        """Apply what changes, until cancelled.

        ``prepare`` makes everything that a change needs and touches nothing that serves; it runs in
        a thread and raises ``UsageError`` if something can't be made.
        """
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._look_seconds)
            is_asked = self._asked.is_set()
            self._asked.clear()
            waiting, self._waiting = self._waiting, []
            if is_asked or await self._has_changed_and_rests():
                await self._reload(prepare, is_asked)
            for read in waiting:
                if not read.done():
                    read.set_result(None)

    def _is_read_from_source(self) -> bool:
        try:
            return load(self._source, self._environ, _note_into(self._stamps)) == self.settings
        except UsageError:
            return False

    async def _has_changed_and_rests(self) -> bool:
        stamps = await asyncio.to_thread(_stamps_of, list(self._stamps))
        rests = stamps == self._seen
        self._seen = stamps
        return rests and stamps != self._stamps

    async def _reload(self, prepare: Callable[[Change], Commit], is_asked: bool) -> None:
        """Read the files and apply what they say, wholly or not at all."""
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
            # Whatever it was, the old configuration serves. The message could quote a secret.
            self._refuse([f"{self._source}: loading it failed ({error_location(error)})"])
        else:
            before = {}
        # A faulty file may not say what it leans on: look at what the one in force does as well.
        self._stamps = self._seen = before | noted
        if rules is not None:
            self._tell(rules)

    def _tell(self, rules: Rules) -> None:
        """Call everybody, whatever one of them does: the next change must be noticed as well."""
        for callback in self.on_applied:
            try:
                callback(rules)
            except Exception as error:
                _log.error("after a reload: %s", error_location(error))

    async def _read_and_apply(
        self, prepare: Callable[[Change], Commit], noted: dict[Path, Stamp], is_asked: bool
    ) -> Rules | None:
        """Return the new rules, or ``None`` if nothing had changed. Raises ``UsageError``."""
        found = await asyncio.to_thread(self._read, noted)
        change = found.change
        if change.new == change.old and not change.changed_files:
            self._stay(is_asked)
            return None
        commit = await asyncio.to_thread(prepare, change)
        rules = commit()
        self.settings, self._contents = change.new, found.contents
        self._applied(found)
        return rules

    def _read(self, noted: dict[Path, Stamp]) -> _Found:
        """Read everything; runs in a thread, as a long list takes its time to compare as well."""
        new = load(self._source, self._environ, _note_into(noted))
        contents = contents_of(new)
        changed = content_differences(self._contents, contents)
        return _Found(
            Change(self.settings, new, frozenset(changed)),
            contents,
            (*differences(self.settings, new), *changed.values()),
            tuple(needs_restart(self._started_with, new)),
        )

    # What is said of it.

    def _applied(self, found: _Found) -> None:
        generation = self.state.generation + 1
        self.state = replace(
            self.state,
            generation=generation,
            loaded_at=time.time(),
            problems=(),
            needs_restart=found.needs_restart,
        )
        if not self._tells_all:
            return
        _log.info("configuration %s reloaded, generation %d", self._source, generation)
        for line in found.told[:_MOST_LINES]:
            _log.info("configuration: %s", line)
        if len(found.told) > _MOST_LINES:
            _log.info("configuration: and %d more differences", len(found.told) - _MOST_LINES)
        for key in found.needs_restart:
            _log.warning("configuration: %s is not what the file says: it needs a restart", key)

    def _stay(self, is_asked: bool) -> None:
        if not self._tells_all:
            pass
        elif not self.state.is_valid:
            _log.info("configuration %s is valid again, and as it was before", self._source)
        elif is_asked:
            _log.info("configuration %s read again: nothing changed", self._source)
        self.state = replace(self.state, problems=())

    def _refuse(self, problems: list[str]) -> None:
        self.state = replace(self.state, problems=tuple(problems), refused=self.state.refused + 1)
        for problem in problems[:_MOST_LINES] if self._tells_all else ():
            _log.error("configuration: %s", problem)
        _log.error(
            "configuration %s not reloaded: generation %d stays in force",
            self._source,
            self.state.generation,
        )


def _note_into(stamps: dict[Path, Stamp]) -> Callable[[Path], None]:
    """Return what keeps the first stamp of each file that it is told of."""

    def note(path: Path) -> None:
        if path not in stamps:
            stamps[path] = _stamp_of(path)

    return note


def _stamps_of(paths: list[Path]) -> dict[Path, Stamp]:
    return {path: _stamp_of(path) for path in paths}


def _stamp_of(path: Path) -> Stamp:
    """Return the state of the file behind all symbolic links; its rights count as well."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
