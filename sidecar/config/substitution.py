"""Replaces ``${...}`` in strings by an environment variable or the text of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sidecar.config.diagnostics import Rejected

MAX_FILE_BYTES = 64 * 1024
"""Larger than any key or password; limits what is read if a log or device is named by mistake."""

_OPENING = re.compile(r"\$?\$\{")
_FILE = re.compile(r"(?<!\$)\$\{file:([^}\0]+)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_NAME_IN_OTHERS = re.compile(r"\s*(?:env[:.]|ENV[:.]|\.|\$)?\s*([A-Za-z_][A-Za-z0-9_]*)\s*")
_OTHER_DEFAULT = re.compile(r"([A-Z_][A-Z0-9_]*)(?:-|:?[=+?]|:(?=[A-Za-z0-9]))")
_LITERAL = re.compile(
    r"\$([A-Z_][A-Z0-9_]*)|\$\(([A-Za-z_]\w*)\)|%([A-Za-z_]\w*)%"
    r"|\{\{[\s.$]*([A-Za-z_]\w*)\s*\}\}|\{([A-Z_][A-Z0-9_]*)\}"
)
"""Of shells, Kubernetes, Windows and templates."""


class Substituted(str):
    """A string that came at least partly from outside the file. Its ``repr`` never shows it."""

    expression: str

    def __new__(cls, text: str, expression: str) -> Substituted:
        """Hold ``text``, and show ``expression`` as the file has it."""
        self = super().__new__(cls, text)
        self.expression = expression
        return self

    def __repr__(self) -> str:
        return f"the value of {self.expression}"


class _Expression(str):
    """A substitution as a diagnostic shows it: ``${NAME}``, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def substitute(text: str, environ: Mapping[str, str], directory: Path) -> str:
    """Return ``text`` with each ``${NAME}``, ``${NAME:-default}`` and ``${file:path}`` replaced.

    Only ``${`` begins a substitution (``$argon2id$v=19$...`` stays as it is); ``$${`` is a literal
    ``${``. Replacements are not substituted again. A default ends at the first ``}`` and applies if
    the variable is unset or empty, as in a shell. Files are read relative to ``directory``, as
    UTF-8, without their last line ending. Raises ``Rejected`` if a substitution fails. A text
    without ``${`` is returned itself.
    """
    pieces: list[str] = []
    position = 0
    expressions: list[str] = []
    while (opening := _OPENING.search(text, position)) is not None:
        pieces.append(text[position : opening.start()])
        if opening[0] == "$${":
            pieces.append("${")
            position = opening.end()
            continue
        end = text.find("}", opening.end())
        if end == -1:
            raise Rejected("has a ${ without a }", "close it, or write $${ for a literal ${")
        pieces.append(_replacement(text[opening.end() : end], environ, directory))
        expressions.append(f"${{{_shortened(text[opening.end() : end])}}}")
        position = end + 1
    if position == 0:
        return text
    result = "".join(pieces) + text[position:]
    return Substituted(result, " and ".join(expressions)) if expressions else result


def files_named_in(text: str, directory: Path) -> Iterator[Path]:
    """Yield the files that ``substitute`` reads for ``text``, even missing ones."""
    for found in _FILE.finditer(text):
        yield directory / found[1]


def _replacement(expression: str, environ: Mapping[str, str], directory: Path) -> str:
    if expression.startswith("file:"):
        return _read(expression.removeprefix("file:"), directory)
    match = _NAME.fullmatch(expression)
    if match is None:
        raise Rejected("is not a substitution", _advice(expression), _quoted(expression))
    name, default = match[1], match[2]
    value = environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise Rejected(
            "is not set",
            f"set the environment variable {name}, or write ${{{name}:-default}}",
            _quoted(expression),
        )
    return value


def _advice(expression: str) -> str:
    """Translate the spellings of shells and of other programs."""
    name = _NAME_IN_OTHERS.fullmatch(expression)
    if name is not None:
        return f"write ${{{name[1]}}}"
    default = _OTHER_DEFAULT.match(expression)
    if default is not None:
        return f"write ${{{default[1]}:-default}}"
    return "write ${NAME}, ${NAME:-default} or ${file:path}"


def literal_name(text: str) -> str | None:
    """Return the variable that a whole value is meant to be, spelt as other programs do."""
    found = _LITERAL.fullmatch(text)
    return next(filter(None, found.groups()), None) if found is not None else None


def _read(name: str, directory: Path) -> str:
    if not name or "\0" in name:
        raise Rejected("names no file", "write ${file:path}", _quoted(f"file:{name}"))
    path = directory / name
    try:
        if not path.exists():
            why, advice = "names a file that does not exist", f"create {path}, or correct the path"
            raise Rejected(why, advice, _quoted(f"file:{name}"))
        if not path.is_file():
            why = "does not name a regular file"
            raise Rejected(why, "name a text file", _quoted(f"file:{name}"))
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode()
    except OSError as error:
        why = f"can't be read ({error.strerror})"
        raise Rejected(why, "let the sidecar's user read it", _quoted(f"file:{name}")) from None
    except UnicodeDecodeError:
        raise Rejected("is not UTF-8 text", "name a text file", _quoted(f"file:{name}")) from None
    if len(content) > MAX_FILE_BYTES:
        raise Rejected(
            f"is larger than {MAX_FILE_BYTES // 1024} KiB",
            "name a smaller file",
            _quoted(f"file:{name}"),
        )
    return text.removesuffix("\n").removesuffix("\r")


def _quoted(expression: str) -> _Expression:
    return _Expression(f"${{{_shortened(expression)}}}")


def _shortened(expression: str) -> str:
    # A default may itself be secret; the name is enough to find the position.
    found = re.match(
        r"([A-Za-z_][A-Za-z0-9_]*)(:[-=+?]|[=+?]|(?<=[A-Z0-9_])-(?=.*[^\w-]))", expression
    )
    return expression if found is None else f"{found[0]}..."
