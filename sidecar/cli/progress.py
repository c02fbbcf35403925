"""What shows that a command is at work: on a terminal only, and only once it takes a while.

``progress`` is a bar for work whose parts are counted, ``activity`` the time that has passed for
work that can't be. Both are on standard error, and gone at the end; in a pipe, in a file and on a
terminal that can't go back in its line (``TERM=dumb``) there is nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

DELAY_SECONDS = 1.0
_TICK_SECONDS = 0.2


@contextmanager
def progress(
    label: str, total: int | None, *, unit: str = " tokens", is_wanted: bool = True
) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more of ``total`` are done; ``None``: nobody knows."""
    if not (is_wanted and _is_shown()):
        yield _show_nothing
        return
    bar = _open_bar(label, total=total, unit=unit, unit_scale=True, delay=DELAY_SECONDS)
    with bar:

        def advance(more: int) -> None:
            bar.update(more)

        yield advance


@contextmanager
def activity(label: str) -> Iterator[None]:
    """Show for how long the block has been running, whether it computes or waits."""
    if not _is_shown():
        yield
        return
    ended = threading.Event()
    ticking = threading.Thread(target=_tick, args=(label, ended), daemon=True)
    ticking.start()
    try:
        yield
    finally:
        ended.set()
        ticking.join()


def _tick(label: str, ended: threading.Event) -> None:
    if ended.wait(DELAY_SECONDS):
        return
    # A delay keeps tqdm from showing the bar before it knows when the work began.
    with _open_bar(label, bar_format="{desc} … {elapsed}", delay=1e-9) as bar:
        bar.start_t -= DELAY_SECONDS
        while not ended.wait(_TICK_SECONDS):
            bar.refresh()


def _is_shown() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _open_bar(label: str, **options: Any) -> tqdm[Any]:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that stays: `sidecar run` forks later on
    return tqdm(desc=label, leave=False, dynamic_ncols=True, file=sys.stderr, **options)


def _show_nothing(_: int) -> None:
    """Show nothing."""
