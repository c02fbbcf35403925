"""Signals as events of the supervisor's selector, so that they never interrupt another step.

A Python handler could run in the middle of any step. The interpreter's wake-up descriptor
(``signal.set_wakeup_fd``) only receives the number of the signal.
"""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sidecar.workers.held_signals import HELD, hold

SIGNALS: Final = (*HELD, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_MOST_BYTES: Final = 4096


class SignalWatch:
    """Calls ``on_signal`` with the number of each signal; several of a kind may count as one."""

    def __init__(self, selector: selectors.BaseSelector, on_signal: Callable[[int], None]) -> None:
        self._selector = selector
        self._on_signal = on_signal
        self._wake: tuple[socket.socket, socket.socket] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals within the context."""
        wake = self._wake = socket.socketpair()
        for end in wake:
            end.setblocking(False)
        signal.set_wakeup_fd(wake[1].fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # an upgrade blocks them
        self._selector.register(wake[0], selectors.EVENT_READ, self._on_readable)
        try:
            yield
        finally:
            self.forget()

    def forget(self) -> None:
        """Restore the handlers, and close the selector; a forked worker calls this too."""
        signal.set_wakeup_fd(-1)
        hold()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for end in self._wake or ():
            end.close()
        self._selector.close()

    def _on_readable(self) -> None:
        assert self._wake is not None
        with suppress(BlockingIOError):
            for number in dict.fromkeys(self._wake[0].recv(_MOST_BYTES)):
                self._on_signal(number)


@contextmanager
def blocked() -> Iterator[None]:
    """Block the signals within the context; those that arrive are delivered at its end."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
