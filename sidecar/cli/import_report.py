"""What became of a file of tokens: counts, and the lines that were not imported."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field

from sidecar.cli.options import print_json
from sidecar.core.counts import count_of

MOST_PROBLEMS = 1000
"""So many problems are listed; more are only counted."""
MOST_SHOWN = 20


def advise_issuer(jwts: int) -> str:
    """Say what is better than to import JWTs, where it can be had."""
    return (
        f"{count_of(jwts, 'JWT')} imported: each passes until its end or until it is revoked. If "
        "you have the key of the system that signs them, name it under jwt.trusted_issuers instead "
        "(a JWKS may hold a shared HS256 secret): then new ones pass as well, and nobody has to "
        "import them"
    )


@dataclass(slots=True)
class ImportReport:
    """The result so far. Line numbers count from 1."""

    created: int = 0
    present: int = 0
    expired: int = 0
    refused: int = 0
    """Valid lines that the store did not take."""
    invalid: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    jwts: int = 0
    """Valid lines that hold a JWT."""
    undeclared: set[str] = field(default_factory=set)
    """Accounts of tokens that the configuration doesn't declare."""

    def invalidate(self, line: int, problem: str) -> None:
        """Add an invalid line."""
        self.invalid += 1
        self._note(line, problem)

    def refuse(self, line: int, problem: str) -> None:
        """Add a valid line that is not imported."""
        self.refused += 1
        self._note(line, problem)

    def _note(self, line: int, problem: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((line, problem))

    def counts(self) -> dict[str, int]:
        """Return the numbers of lines, by what became of them."""
        return {
            "created": self.created,
            "present": self.present,
            "expired": self.expired,
            "refused": self.refused,
            "invalid": self.invalid,
        }

    def print(self, arguments: argparse.Namespace) -> None:
        """Print the report, as JSON with ``--json``."""
        undeclared = sorted(self.undeclared)
        if arguments.json:
            listed = [{"line": line, "problem": problem} for line, problem in self.problems]
            print_json({**self.counts(), "undeclared_accounts": undeclared, "problems": listed})
            return
        self._print_problems()
        print(
            f"{self.created} imported, {self.present} present already, {self.expired} expired, "
            f"{self.refused} refused, {self.invalid} invalid"
        )
        if self.jwts:
            print(f"note: {advise_issuer(self.jwts)}", file=sys.stderr)
        if undeclared:
            print(
                f"note: the configuration declares no account {', '.join(undeclared)}; "
                "their tokens are refused until it does",
                file=sys.stderr,
            )

    def _print_problems(self) -> None:
        for line, problem in self.problems[:MOST_SHOWN]:
            print(f"line {line}: {problem}", file=sys.stderr)
        more = self.refused + self.invalid - min(len(self.problems), MOST_SHOWN)
        if more:
            print(f"and {count_of(more, 'line')} more; --json lists them", file=sys.stderr)
