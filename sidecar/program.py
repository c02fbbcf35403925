"""Which program this is: its version, whether its path is compiled, and the Python it runs on."""

from __future__ import annotations

import platform
from importlib.machinery import ExtensionFileLoader

from sidecar import __version__
from sidecar.core import tokens


def describe_program() -> str:
    """Return such as ``0.1.0 (compiled, CPython 3.11.2)``; else it says ``plain Python``."""
    form = "compiled" if is_compiled() else "plain Python"
    return f"{__version__} ({form}, {platform.python_implementation()} {platform.python_version()})"


def is_compiled() -> bool:
    """Tell whether the modules that every request passes are loaded as C, not whether C is there.

    They are built together, so one of them tells.
    """
    return isinstance(tokens.__spec__.loader, ExtensionFileLoader)
