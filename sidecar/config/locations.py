"""Tells in which line of the configuration a key stands, for messages about a valid file."""

from __future__ import annotations

from pathlib import Path

from sidecar.config.document import Unreadable, YamlNode, compose

Step = str | int


class Locations:
    """The lines of one file. What can't be read (any more) has none."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._root: YamlNode | None = None
        try:
            self._root, _ = compose(file.read_text("utf-8-sig"), lambda text: text)
        except (OSError, ValueError, Unreadable):
            return

    def find(self, *steps: Step) -> str | None:
        """Return ``file:line`` of a key or an item of a list; ``None``: it is not in the file."""
        if self._root is None or not steps:
            return None
        parent = self._root.at(*steps[:-1])
        last = steps[-1]
        node = None if parent is None else parent.at(last)
        if parent is None or node is None:
            return None
        line, _ = parent.keys.get(str(last), node.position)
        return f"{self._file}:{line}"

    def describe(self, *steps: Step) -> str:
        """Return where a key stands, and its path; if it is left out, where its section stands."""
        path = path_of(*steps)
        place = self.find(*steps)
        if self._root is None:
            return f"{self._file}, {path}"
        if place is not None:
            return f"{place}, {path}"
        enclosing = (self.find(*steps[:count]) for count in range(len(steps) - 1, 0, -1))
        section = next(filter(None, enclosing), str(self._file))
        return f"{section}, {path} (left out: the default)"


def path_of(*steps: Step) -> str:
    """Return the path of a key as the messages write it: ``routes[1].accounts``."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
