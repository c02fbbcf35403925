"""``sidecar init``: asks what is in front of what, and writes a first configuration.

At a terminal it asks for what no option says; without one, or with ``--yes``, the defaults count.
Nothing is written before everything is known to be right, and nothing is ever overwritten: there is
no ``--force``, as a configuration holds what can't be made again.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidecar.cli.color import Style, paint
from sidecar.cli.new_configuration import (
    NAME,
    Answers,
    problems_of,
    sample_call,
    sample_path,
    write_configuration,
    write_new,
)
from sidecar.cli.options import Subparsers, add_json, find_config, print_json
from sidecar.cli.standard_input import is_terminal, read_password
from sidecar.core.errors import UsageError

_EXAMPLES = (
    "sidecar init",
    "sidecar init --upstream http://127.0.0.1:8080 --account acme --yes",
    "sidecar init /etc/sidecar --store redis://127.0.0.1:6379/0 --jwt",
    "sidecar init try --path '/v1/items/{id}' --path '/v1/orders/**'",
)
_PASSWORD_BYTES = 12
_CONFIG_MODE, _KEY_MODE, _DIRECTORY_MODE = 0o640, 0o600, 0o700


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    defaults = Answers()
    parser = commands.add_parser(
        "init",
        help="write a first configuration, with an account, its password and perhaps a key",
        description=f"Write {NAME} into DIR: what is in front of what, and one account with a new "
        "password, which is shown once. At a terminal, init asks for what no option says; "
        "otherwise the defaults count. What it writes passes `sidecar check --strict`. It never "
        "overwrites a file.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=Path(),
        help="made if it does not exist (default: the current directory)",
    )
    parser.add_argument(
        "--upstream", metavar="URL", help=f"the service behind (default: {defaults.upstream})"
    )
    parser.add_argument(
        "--path",
        metavar="P",
        dest="paths",
        action="append",
        help="a path pattern that may be called; may be repeated (default: /**, any path)",
    )
    parser.add_argument(
        "--account", metavar="A", help=f"the first account (default: {defaults.account})"
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="where tokens live: embedded, or a Redis such as redis://HOST:6379/0 "
        f"(default: {defaults.store})",
    )
    parser.add_argument(
        "--jwt",
        dest="signs",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="make a key that signs JWTs (default: no)",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        default=defaults.listen,
        help=f"where callers connect; the page and the operations listener take the next two "
        f"ports (default: {defaults.listen})",
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the account's password from standard input instead of making one",
    )
    parser.add_argument(
        "--yes",
        "--no-input",
        dest="yes",
        action="store_true",
        help="ask nothing: take the defaults",
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from sidecar.core.keys import generate_key
    from sidecar.core.passwords import hash_password

    file = arguments.directory / NAME
    _refuse_existing(file)
    given = read_password(asks_twice=True) if arguments.password_stdin else None
    password = given or secrets.token_urlsafe(_PASSWORD_BYTES)
    try:
        password_hash = hash_password(password)
    except ValueError as error:
        raise UsageError(f"{error}; nothing was written") from None
    key = generate_key("EdDSA")
    answers = replace(Answers(), listen=arguments.listen, password_hash=password_hash)
    if is_terminal() and not arguments.yes:
        answers = _ask_for_all(answers, arguments, key)
    else:
        answers = _take_given(answers, arguments)
    _refuse_problems(answers, key)
    _write(arguments.directory, answers, key)
    if arguments.json:
        print_json(_as_object(file, answers, None if given else password))
    else:
        _tell(file, answers, None if given else password)
    return 0


# What is wanted.


def _take_given(answers: Answers, arguments: argparse.Namespace) -> Answers:
    given: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("upstream", "account", "store", "signs")
        if getattr(arguments, name) is not None
    }
    if arguments.paths:
        given["paths"] = tuple(arguments.paths)
    return replace(answers, **given)


def _ask_for_all(answers: Answers, arguments: argparse.Namespace, key: str) -> Answers:
    """Ask for what no option says; an answer that can't be is asked for again."""
    answers = _take_given(answers, arguments)
    _refuse_problems(answers, key)
    print(
        f"This writes {arguments.directory / NAME}. Enter takes what is in brackets.",
        file=sys.stderr,
    )
    if arguments.upstream is None:
        answers = _ask(answers, key, "URL of the service behind", "upstream")
    if not arguments.paths:
        answers = _ask(answers, key, "Path pattern that may be called", "paths", lambda t: (t,))
    if arguments.account is None:
        answers = _ask(answers, key, "Account that may call it", "account")
    if arguments.store is None:
        question = "Redis for its tokens: embedded, or redis://HOST:6379/0"
        answers = _ask(answers, key, question, "store")
    if arguments.signs is None:
        answers = replace(answers, signs=_ask_whether("Make a key that signs JWTs?"))
    return answers


def _ask(
    answers: Answers,
    key: str,
    question: str,
    name: str,
    read: Callable[[str], Any] = lambda text: text,
) -> Answers:
    """Return the answers with one more, which the configuration takes."""
    default = getattr(answers, name)
    shown = default[0] if isinstance(default, tuple) else default
    while True:
        text = _read_line(f"{question} [{shown}]: ").strip()
        changed: dict[str, Any] = {name: read(text)} if text else {}
        asked = replace(answers, **changed)
        problems = _problems_of(asked, key)
        if not problems:
            return asked
        for problem in problems:
            print(f"  {paint(problem, Style.BAD, sys.stderr)}", file=sys.stderr)


def _ask_whether(question: str) -> bool:
    while True:
        text = _read_line(f"{question} [y/N]: ").strip().lower()
        if text in {"", "n", "no"}:
            return False
        if text in {"y", "yes"}:
            return True
        print("  answer y or n", file=sys.stderr)


def _read_line(prompt: str) -> str:
    if sys.stdout.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - so that a line can be edited
        try:
            return input(prompt)
        except EOFError:
            print()
    else:
        print(prompt, end="", file=sys.stderr, flush=True)
        if line := sys.stdin.readline():
            return line
    raise UsageError("the input ended before every question was answered; nothing was written")


def _problems_of(answers: Answers, key: str) -> list[str]:
    """Return what keeps these answers from being a configuration."""
    texts = [answers.upstream, *answers.paths, answers.account, answers.store, answers.listen]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return ["an answer is not in UTF-8"]
    return problems_of(answers, key)


def _refuse_problems(answers: Answers, key: str) -> None:
    problems = _problems_of(answers, key)
    if problems:
        raise UsageError(f"{'; '.join(problems)}. Nothing was written")


def _refuse_existing(*files: Path) -> None:
    for file in files:
        if file.exists() or file.is_symlink():
            raise UsageError(
                f"{file} exists, and init overwrites nothing; name another directory, or move it "
                "away first"
            )


# What is made of it.


def _write(directory: Path, answers: Answers, key: str) -> None:
    """Write all files or, if one can't be written, none."""
    file, key_file = directory / NAME, directory / answers.key_file
    ignored = key_file.parent / ".gitignore"
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as undo:
        if answers.signs:
            _refuse_existing(key_file)
            key_file.parent.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            write_new(key_file, key, _KEY_MODE)
            undo.callback(key_file.unlink)
            if not ignored.exists():
                write_new(ignored, "# A key is for nobody else's eyes.\n*\n", _CONFIG_MODE)
                undo.callback(ignored.unlink)
        write_new(file, write_configuration(answers), _CONFIG_MODE)
        undo.pop_all()


def _as_object(file: Path, answers: Answers, password: str | None) -> dict[str, object]:
    return {
        "config": str(file),
        "key": str(file.parent / answers.key_file) if answers.signs else None,
        "account": answers.account,
        "password": password,
        "listen": answers.listen,
        "portal": answers.portal,
        "operations": answers.operations,
    }


def _tell(file: Path, answers: Answers, password: str | None) -> None:
    """Say what was written, and what to type next."""
    print(f"Wrote {file}: callers of {answers.listen} reach {answers.upstream}.")
    if answers.signs:
        print(f"Wrote {file.parent / answers.key_file}: the key that signs JWTs.")
    if password is not None:
        shown = paint(password, Style.STRONG, sys.stdout)
        print(f"\nThe password of {answers.account} is {shown}")
        print("It is shown only now, for calls and for the page: the file holds its hash alone.")
    if answers.store == "embedded":
        _warn_of_missing_redis()
    config = _config_option(file)
    options, url = sample_call(answers.listen, sample_path(answers.paths[0]))
    account = _option("--account", answers.account)
    curl = shlex.join(["curl", *options])
    call = f'{curl} -H "Authorization: Bearer $TOKEN" {shlex.quote(url)}'
    steps = [
        ("Next, check it, and run it:", f"sidecar check{config}", f"sidecar run{config}"),
        (
            "Then, in another terminal, make a token and call the service with it:",
            f"TOKEN=$(sidecar token create {account} --name first --days 30{config})",
            call,
        ),
        (
            "Once nobody should call with it any more:",
            f"sidecar token list{config}",
            f"sidecar token revoke ID{config}",
        ),
    ]
    for about, *lines in steps:
        print(f"\n{about}\n")
        for line in lines:
            print(f"  {line}")


def _warn_of_missing_redis() -> None:
    from sidecar.runtime.parts import find_binary

    try:
        find_binary()
    except UsageError as error:
        print(f"\n{paint('note:', Style.ODD, sys.stdout)} {error}")


def _config_option(file: Path) -> str:
    """Return the option that names the file, where a command would not find it by itself."""
    try:
        found = find_config(argparse.Namespace(config=None))
    except UsageError:
        found = None
    is_found = found is not None and found.absolute() == file.absolute()
    return "" if is_found else f" {_option('--config', str(file))}"


def _option(name: str, value: str) -> str:
    """Return an option as it is typed; a value that begins with a dash is no option itself."""
    between = "=" if value.startswith("-") else " "
    return f"{name}{between}{shlex.quote(value)}"
