"""A bar that shows how far a command has come: on a terminal only, once it takes a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_DELAY_SECONDS = 1.0


@contextmanager
def progress(
    label: str, total: int | None, *, unit: str = " tokens"
) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more of ``total`` are done.

    The bar is on standard error, and gone at the end. Without a terminal there is none.
    """
    from tqdm import tqdm

    with tqdm(
        desc=label,
        total=total,
        unit=unit,
        unit_scale=True,
        delay=_DELAY_SECONDS,
        disable=None,
        leave=False,
        dynamic_ncols=True,
    ) as bar:

        def advance(more: int) -> None:
            bar.update(more)

        yield advance
