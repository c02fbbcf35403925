"""The command as an admin meets it, on a real Redis: nothing secret in any output, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.core.passwords import hash_password, verify
from sidecar.store.embedded import find_binary
from tests.command_line import Run, run_command
from tests.ports import free_port
from tests.proxy_process import ROOT, ProxyProcess, run_sidecar
from tests.redis_servers import RedisServer, running_redis

TOKEN_KEYS = ["id", "account", "name", "kind", "created_at", "expires_at", "last_used_at", "paths"]
PASSWORD = "correct horse battery staple"
IMPORTED = "of-the-old-system/1234567890"


class Admin:
    """A configuration on a Redis, and the commands that an admin runs with it."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.redis = redis
        self.config = directory / "sidecar.yaml"
        self.settings: dict[str, Any] = {
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{free_port()}"}},
            "routes": [{"path": "/v1/{id}"}],
            "accounts": {
                "acme": {"password_hash": hash_password(PASSWORD), "paths": ["/v1/*"]},
                "bolt": {"max_token_days": 30},
                "gone": {"disabled": True},
            },
            "store": {"url": redis.unix_url},
        }
        self.write()

    def write(self) -> None:
        self.config.write_text(yaml.safe_dump(self.settings))

    def run(self, *arguments: str, stdin: str | None = None) -> Run:
        return run_command(*arguments, "--config", str(self.config), stdin=stdin)

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def create(self, name: str, days: int = 1, account: str = "acme") -> dict[str, Any]:
        asked = ("--account", account, "--name", name, "--days", str(days))
        made: dict[str, Any] = self.json("token", "create", *asked)
        return made


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(str(find_binary()), tmp_path_factory.mktemp("r")) as server:
        yield server


@pytest.fixture
def admin(tmp_path: Path, redis: RedisServer) -> Admin:
    redis.command("FLUSHALL")
    return Admin(tmp_path, redis)


def test_create_prints_the_token_alone_and_the_rest_beside_it(admin: Admin) -> None:
    done = admin.run("token", "create", "--account", "acme", "--name", "shop", "--days", "1")
    assert done.returncode == 0
    token = done.stdout.removesuffix("\n")
    assert len(token) == 64
    assert token.startswith("sct_")
    assert "'shop' of acme, expires " in done.stderr
    assert token not in done.stderr


def test_a_made_token_has_the_promised_keys_and_lives_its_days(admin: Admin) -> None:
    made = admin.create("shop", days=1)
    assert list(made) == [*TOKEN_KEYS, "token"]
    created, expires = (datetime.fromisoformat(made[key]) for key in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=1)
    assert created.tzinfo == UTC
    (key,) = admin.redis.command("KEYS", "sidecar:token:*")
    assert 86_000 < admin.redis.command("TTL", key) <= 86_400


def test_a_token_of_no_days_never_expires_and_its_key_has_no_ttl(admin: Admin) -> None:
    assert admin.create("forever", days=0)["expires_at"] is None
    (key,) = admin.redis.command("KEYS", "sidecar:token:*")
    assert admin.redis.command("TTL", key) == -1


def test_list_show_and_inspect_agree_and_never_show_the_token(admin: Admin) -> None:
    made = admin.create("shop")
    described = {key: made[key] for key in TOKEN_KEYS}
    assert admin.json("token", "list") == [described]
    assert admin.json("token", "list", "--account", "bolt") == []
    assert admin.json("token", "show", made["id"]) == described
    assert admin.json("token", "inspect", stdin=f"{made['token']}\n") == described
    for words in (["list"], ["show", made["id"]]):
        shown = admin.run("token", *words).stdout
        assert made["id"] in shown
        assert made["token"] not in shown


def test_a_token_can_be_limited_to_paths(admin: Admin) -> None:
    asked = (
        "--account",
        "acme",
        "--name",
        "n",
        "--days",
        "1",
        "--path",
        "/v1/a",
        "--path",
        "/v1/b*",
    )
    assert admin.json("token", "create", *asked)["paths"] == ["/v1/a", "/v1/b*"]


def test_a_revoked_token_is_known_no_more(admin: Admin) -> None:
    made = admin.create("shop")
    assert f"revoked {made['id']}" in admin.run("token", "revoke", made["id"]).stdout
    assert admin.json("token", "list") == []
    inspected = admin.run("token", "inspect", stdin=made["token"])
    assert (inspected.returncode, inspected.stdout) == (1, "")
    assert "unknown, expired or revoked" in inspected.stderr


def test_all_tokens_of_an_account_can_be_revoked_at_once(admin: Admin) -> None:
    mine = {admin.create(name)["id"] for name in ("a", "b")}
    others = admin.create("c", account="bolt")["id"]
    revoked = admin.json("token", "revoke", "--account", "acme", "--all")
    assert {token["id"] for token in revoked} == mine
    assert [token["id"] for token in admin.json("token", "list")] == [others]


def test_a_mistyped_account_is_not_taken_for_one_without_tokens(admin: Admin) -> None:
    """Who revokes in a hurry must not believe that it is done."""
    admin.create("shop")
    revoked = admin.run("token", "revoke", "--account", "acmee", "--all")
    listed = admin.run("token", "list", "--account", "acmee")
    assert (revoked.returncode, listed.returncode) == (1, 0)
    for done in (revoked, listed):
        assert "declares no account 'acmee' (did you mean acme?)" in done.stderr
    none = admin.run("token", "revoke", "--account", "bolt", "--all")
    assert (none.returncode, none.stderr) == (
        0,
        "sidecar: there is no live token of account bolt\n",
    )


def test_a_rotated_token_has_a_successor_and_lives_for_the_overlap(admin: Admin) -> None:
    old = admin.create("shop", days=30)
    new = admin.json("token", "rotate", old["id"], "--overlap", "90s")
    assert (new["name"], new["id"] != old["id"]) == ("shop", True)
    listed = {token["id"]: token for token in admin.json("token", "list")}
    assert listed.keys() == {old["id"], new["id"]}
    assert listed[old["id"]]["expires_at"] < new["expires_at"]


def test_the_limit_of_an_accounts_tokens_is_the_command_lines_too(admin: Admin) -> None:
    admin.settings["accounts"]["acme"]["max_tokens"] = 1
    admin.write()
    first = admin.create("shop")
    for door in (("create",), ("import",)):
        asked = (*door, "--account", "acme", "--name", "another", "--days", "1")
        refused = admin.run("token", *asked, stdin=IMPORTED)
        assert refused.returncode == 1
        assert "revoke one that is no longer needed, or have accounts.acme.max_tokens" in (
            refused.stderr
        )
    assert admin.json("token", "rotate", first["id"])["name"] == "shop"


def test_an_imported_token_is_taken_from_standard_input_and_is_not_shown(admin: Admin) -> None:
    asked = ("--account", "acme", "--name", "old shop", "--days", "0")
    record = admin.json("token", "import", *asked, stdin=f"{IMPORTED}\n")
    assert (record["kind"], "token" in record) == ("imported", False)
    assert admin.json("token", "inspect", stdin=IMPORTED)["id"] == record["id"]
    again = admin.run("token", "import", *asked, stdin=IMPORTED)
    assert again.returncode == 2
    assert IMPORTED not in again.stderr


def test_a_token_with_something_around_it_is_imported_as_it_is_with_a_note(admin: Admin) -> None:
    asked = ("--account", "acme", "--name", "quoted", "--days", "0")
    done = admin.run("token", "import", *asked, stdin=f'\ufeff"{IMPORTED}"\r\n')
    assert done.returncode == 0
    assert "note: The token in standard input has a quotation mark around it" in done.stderr
    assert IMPORTED not in done.stderr
    assert admin.run("token", "inspect", stdin=f'"{IMPORTED}"').returncode == 0
    assert admin.run("token", "inspect", stdin=IMPORTED).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "told"),
    [
        (
            ["create", "--account", "acne", "--name", "n", "--days", "1"],
            None,
            2,
            "did you mean acme",
        ),
        (["create", "--account", "gone", "--name", "n", "--days", "1"], None, 2, "disabled"),
        (
            ["create", "--account", "bolt", "--name", "n", "--days", "31"],
            None,
            2,
            "from 1 to 30: no token of account bolt",
        ),
        (
            ["create", "--account", "bolt", "--name", "n", "--days", "0"],
            None,
            2,
            "from 1 to 30: no token of account bolt",
        ),
        (["create", "--account", "acme", "--name", " ", "--days", "1"], None, 2, "name"),
        (["create", "--account", "acme", "--name", "n", "--days", "99999"], None, 2, "days"),
        (["show", "nobody"], None, 1, "no live token has this id"),
        (["revoke", "nobody"], None, 1, "no live token has this id"),
        (["rotate", "nobody"], None, 1, "no live token has this id"),
        (["revoke"], None, 2, "the ID of one token, or --account A --all"),
        (["revoke", "--all"], None, 2, "the ID of one token, or --account A --all"),
        (["revoke", "x", "--all"], None, 2, "the ID of one token, or --account A --all"),
        (["inspect"], "", 2, "no token came on standard input"),
        (["inspect"], "tiny", 1, "this is not a token"),
        (["inspect"], '"no-such-token-of-anybody"', 1, "has a quotation mark around it"),
        (["inspect"], "Bearer no-such-token-of-anybody", 1, "begins with the name of a scheme"),
        (["inspect"], "a-token-and-then\nanother-token-xx", 2, "more than one line"),
        (["inspect"], "sct_" + "x" * 60, 1, "its checksum is wrong"),
        (["inspect"], "no-such-token-of-anybody", 1, "unknown, expired or revoked"),
        (["inspect"], "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", 1, "JWT"),
        (
            ["import", "--account", "acme", "--name", "n", "--days", "1"],
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln",
            2,
            "this JWT can't be imported: The token is not signed.",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    admin: Admin, arguments: list[str], stdin: str | None, status: int, told: str
) -> None:
    done = admin.run("token", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not stdin or stdin not in done.stderr


def test_a_name_is_used_once(admin: Admin) -> None:
    admin.create("shop")
    again = admin.run("token", "create", "--account", "acme", "--name", "shop", "--days", "1")
    assert (again.returncode, again.stdout) == (1, "")
    assert "already has a token named 'shop'" in again.stderr


def test_a_store_that_is_away_is_a_failure_and_no_traceback(admin: Admin) -> None:
    admin.settings["store"] = {"url": f"redis://:hidden@127.0.0.1:{free_port()}/0"}
    admin.write()
    done = admin.run("token", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("sidecar: store_unavailable: ")
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sent", ["{}", "{}\n", "{}\r\n", "\ufeff{}\r\n"])
def test_hash_password_reads_one_line_and_prints_a_hash_of_it(admin: Admin, sent: str) -> None:
    done = admin.run("account", "hash-password", stdin=sent.format(PASSWORD))
    assert done.returncode == 0
    assert verify(PASSWORD, done.stdout.strip())


@pytest.mark.parametrize(
    "line", ["", "\n", "\ufeff\n", "x" * 1025 + "\n", f"{PASSWORD}\nmore\n", f"{PASSWORD}\0\n"]
)
def test_what_is_no_password_is_not_hashed(admin: Admin, line: str) -> None:
    done = admin.run("account", "hash-password", stdin=line)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_hash_password_asks_twice_on_a_terminal_and_echoes_nothing(tmp_path: Path) -> None:
    assert answer_on_terminal(PASSWORD, PASSWORD) == (0, True)
    assert answer_on_terminal(PASSWORD, "another") == (2, False)


def answer_on_terminal(*answers: str) -> tuple[int, bool]:
    """Type answers at the prompts; return the exit status, and whether a hash of the first came."""
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "sidecar", "account", "hash-password"]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, start_new_session=True
    )
    os.close(terminal)
    shown = ""
    for prompt, answer in zip(("Password: ", "Again: "), answers, strict=True):
        while prompt not in shown:
            shown += os.read(reader, 4096).decode()
        os.write(reader, f"{answer}\n".encode())
    status = process.wait(20)
    shown += os.read(reader, 4096).decode()
    os.close(reader)
    assert not any(answer in shown for answer in answers)
    lines = [line.strip() for line in shown.splitlines()]
    return status, any(line.startswith("$argon2id$") and verify(answers[0], line) for line in lines)


def run_on_terminal(config: Path, *arguments: str, columns: int) -> str:
    """Run a command whose output is a terminal of so many columns; return what it shows."""
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "sidecar", *arguments, "--config", str(config)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
    )
    os.close(terminal)
    shown = b""
    while piece := _read_some(reader):
        shown += piece
    os.close(reader)
    assert process.wait(20) == 0
    return shown.decode().replace("\r\n", "\n")


def _read_some(terminal: int) -> bytes:
    """Return what a terminal shows next; nothing once no process has it open (EIO on Linux)."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_a_terminal_shows_sentences_and_tables_that_fit_and_no_audit_line(admin: Admin) -> None:
    log = admin.config.with_name("access.log")
    log.touch()
    admin.settings["access_log"] = {"path": str(log)}
    admin.write()
    asked = ("--account", "acme", "--name", "the shop's nightly export", "--days", "1")
    shown = run_on_terminal(admin.config, "token", "create", *asked, columns=100)
    assert "event" not in shown
    assert len(shown.splitlines()) == 2
    (made,) = admin.json("token", "list")
    lines = run_on_terminal(admin.config, "token", "list", columns=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith(made["id"])
    assert made["expires_at"] in admin.run("token", "list").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("token", "list"), "sidecar: there is no live token"),
        (("token", "list", "--account", "acme"), "sidecar: there is no live token of account acme"),
        (("throttle", "list"), "nobody is banned"),
        (("throttle", "clear", "--all"), "no matching ban or failure count was found"),
        (("account", "list"), "the configuration declares no account"),
    ],
)
def test_an_empty_list_is_said_beside_the_output(
    admin: Admin, words: tuple[str, ...], says: str
) -> None:
    if words[0] == "account":
        del admin.settings["accounts"]
        admin.write()
    done = admin.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{says}\n")
    assert admin.run(*words, "--json").stdout == "[]\n"


def test_accounts_are_listed_without_their_hashes(admin: Admin) -> None:
    accounts = admin.json("account", "list")
    assert accounts[0] == {
        "account": "acme",
        "password": True,
        "paths": ["/v1/*"],
        "max_token_days": 0,
        "max_tokens": 1000,
        "groups": [],
        "disabled": False,
    }
    assert [account["disabled"] for account in accounts] == [False, False, True]
    assert "argon2id" not in admin.run("account", "list").stdout


def test_check_says_what_it_found(admin: Admin) -> None:
    done = admin.run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{admin.config}: ok: 1 route, 1 upstream, 3 accounts\n"


def test_run_logs_the_warnings_of_check_at_its_start(admin: Admin) -> None:
    admin.settings["routes"] = [{"path": "/**", "public": True}, {"path": "/v1/:id"}]
    with ProxyProcess(admin.config.parent, admin.settings) as process:
        lines = [line for line in process.stderr.splitlines() if ": routes[1]" in line]
    assert len(lines) == 2
    assert all(line.startswith(f"WARNING configuration: {admin.config}:") for line in lines)
    assert "nobody is asked for a credential" in "".join(lines)


def test_check_places_a_problem_of_a_file_of_accounts_in_that_file(admin: Admin) -> None:
    listed = admin.config.with_name("more.yaml")
    listed.write_text("# one\none: {pasword_hash: x}\n")
    admin.settings["accounts_from"] = ["more.yaml"]
    admin.write()
    done = admin.run("check", "--json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == (str(listed), 2, 7)
    assert problem["text"].startswith("accounts.one.pasword_hash: there is no such key")


def test_check_lists_every_problem_with_its_place(admin: Admin) -> None:
    admin.config.write_text("upstream: {}\nroutes:\n  - {path: nowhere, publik: true}\n")
    done = admin.run("check")
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"{admin.config}:") for line in lines)


def test_check_connect_names_what_is_away_and_what_would_lose_tokens(admin: Admin) -> None:
    admin.redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        done = admin.run("check", "--connect")
    finally:
        admin.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert done.returncode == 1
    assert "set maxmemory-policy noeviction" in done.stderr
    assert "set appendonly yes" in done.stderr
    assert "upstream listener" in done.stderr
    assert "is the service running?" in done.stderr


def test_check_connect_is_content_with_a_redis_that_keeps_tokens(admin: Admin) -> None:
    admin.redis.command("CONFIG", "SET", "appendonly", "yes")
    admin.settings["upstreams"]["listener"]["url"] = f"unix:{admin.redis.socket}"
    admin.write()
    try:
        done = admin.run("check", "--connect")
    finally:
        admin.redis.command("CONFIG", "SET", "appendonly", "no")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()[1:]] == ["ok", "ok"]


def test_check_connect_says_so_when_redis_is_away_and_shows_no_password(admin: Admin) -> None:
    admin.settings["store"] = {"url": f"redis://:hidden@127.0.0.1:{free_port()}/0"}
    admin.write()
    done = admin.run("check", "--connect")
    assert done.returncode == 1
    assert "store (redis): " in done.stderr
    assert "hidden" not in done.stderr + done.stdout


def test_healthcheck_is_0_while_the_sidecar_runs_and_1_once_it_does_not(admin: Admin) -> None:
    process = ProxyProcess(admin.config.parent, admin.settings)
    with process:
        assert run_sidecar("healthcheck", config=process.config).returncode == 0
    after = run_command("healthcheck", config=process.config)
    assert after.returncode == 1
    assert after.stderr.startswith("sidecar: not alive at 127.0.0.1:")


def test_healthcheck_asks_a_unix_socket_too(admin: Admin) -> None:
    address = f"unix:{admin.redis.socket.parent}/ops.sock"
    admin.settings |= {
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "operations": {"address": address},
    }
    admin.write()
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "run", "--config", str(admin.config)], cwd=ROOT
    )
    try:
        while not Path(address.removeprefix("unix:")).exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert admin.run("healthcheck").returncode == 0
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_healthcheck_without_an_operations_listener_is_wrong_usage(admin: Admin) -> None:
    admin.settings["operations"] = False
    admin.write()
    done = admin.run("healthcheck")
    assert done.returncode == 2
    assert "set operations.address" in done.stderr


def test_the_schema_is_json_and_knows_every_section() -> None:
    done = run_command("schema")
    assert done.returncode == 0
    assert {"routes", "upstreams", "store"} <= json.loads(done.stdout)["properties"].keys()


@pytest.mark.parametrize("command", ["run", "check", "healthcheck"])
def test_a_configuration_that_is_not_there_is_said_so(command: str, tmp_path: Path) -> None:
    missing = tmp_path / "nothing.yaml"
    done = run_command(command, config=missing)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_names_a_configuration_and_the_option_goes_before_it(admin: Admin) -> None:
    named = {"SIDECAR_CONFIG": str(admin.config)}
    assert run_command("check", environment=named).returncode == 0
    missing = admin.config.with_name("nothing.yaml")
    assert run_command("check", config=missing, environment=named).returncode == 2


def test_without_any_configuration_the_command_says_where_it_looked(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "check"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "config/sidecar.yaml" in done.stderr
    assert "/etc/sidecar/sidecar.yaml" in done.stderr


def test_output_nobody_reads_ends_the_command_quietly(admin: Admin) -> None:
    command = f"{sys.executable} -m sidecar schema | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
