"""Values that were probably meant to come from the environment, and stand for themselves."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.diagnostics import Diagnostic
from sidecar.config.document import YamlNode
from sidecar.config.error_messages import key_path
from sidecar.config.substitution import literal_name

Step = str | int


def warn_of_literals(root: YamlNode) -> Iterator[Diagnostic]:
    """Yield a warning for each value such as ``$NAME``, which only ``${NAME}`` replaces."""
    pending: list[tuple[YamlNode, tuple[Step, ...]]] = [(root, ())]
    while pending:
        node, steps = pending.pop()
        pending += [(child, (*steps, key)) for key, child in node.entries().items()]
        pending += [(child, (*steps, index)) for index, child in enumerate(node.items())]
        if type(node.value) is str and (name := literal_name(node.value)) is not None:
            text = f"{node.value} stands for itself here; did you mean ${{{name}}}?"
            yield Diagnostic(*node.position, f"{key_path(steps)}: {text}")
