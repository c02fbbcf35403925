"""``sidecar token import --file``: many tokens at once, all or none, and again without effect."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.store.embedded import find_binary
from tests.command_line import Run, run_command
from tests.old_jwts import jwt_of
from tests.ports import free_port
from tests.redis_servers import RedisServer, running_redis

HEADER = "token,account,name,days\n"
SECRET = "legacy-token-number-{:08}".format


class Admin:
    """A configuration on a Redis, and a file of tokens."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.config, self.csv = directory / "sidecar.yaml", directory / "tokens.csv"
        self.log = directory / "access.log"
        self.log.touch()
        settings: dict[str, Any] = {
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{free_port()}"}},
            "routes": [{"path": "/v1/{id}"}],
            "accounts": {
                "acme": {},
                "brief": {"max_token_days": 30},
                "small": {"max_tokens": 3},
                "gone": {"disabled": True},
            },
            "store": {"url": redis.unix_url},
            "access_log": {"path": str(self.log)},
        }
        self.config.write_text(yaml.safe_dump(settings))

    def run(self, *words: str, stdin: str | None = None) -> Run:
        return run_command(*words, "--config", str(self.config), stdin=stdin)

    def load(self, text: str, *options: str) -> tuple[int, dict[str, Any]]:
        self.csv.write_text(text)
        done = self.run("token", "import", "--file", str(self.csv), "--json", *options)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    def problems(self, rows: str, header: str = HEADER) -> list[str]:
        status, report = self.load(header + rows)
        assert status == 1
        assert report["created"] == 0
        assert self.names() == []
        return [f"{one['line']}: {one['problem']}" for one in report["problems"]]

    def names(self, account: str = "acme") -> list[str]:
        listed = json.loads(self.run("token", "list", "--json", "--account", account).stdout)
        return [token["name"] for token in listed]

    def inspect(self, secret: str) -> dict[str, Any]:
        done = self.run("token", "inspect", "--json", stdin=secret)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(str(find_binary()), tmp_path_factory.mktemp("r")) as server:
        yield server


@pytest.fixture
def admin(tmp_path: Path, redis: RedisServer) -> Admin:
    redis.command("FLUSHALL")
    return Admin(tmp_path, redis)


def rows_of(count: int, account: str = "acme") -> str:
    return "".join(f"{SECRET(number)},{account},shop {number},0\n" for number in range(count))


def test_the_tokens_of_a_file_work_and_a_second_import_changes_nothing(admin: Admin) -> None:
    status, report = admin.load(HEADER + rows_of(600))
    assert (status, report["created"]) == (0, 600)
    first = admin.inspect(SECRET(0)), admin.inspect(SECRET(599))
    assert [token["name"] for token in first] == ["shop 0", "shop 599"]
    status, report = admin.load(HEADER + rows_of(600))
    assert (status, report["created"], report["present"]) == (0, 0, 600)
    assert first == (admin.inspect(SECRET(0)), admin.inspect(SECRET(599)))
    assert len(admin.names()) == 600


def test_the_rest_of_a_file_is_imported_after_a_part_of_it(admin: Admin) -> None:
    admin.load(HEADER + rows_of(300))
    status, report = admin.load(HEADER + rows_of(700))
    assert (status, report["created"], report["present"]) == (0, 400, 300)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_a_spreadsheet_writes_is_read(admin: Admin, delimiter: str) -> None:
    rows = [
        ["Name", "TOKEN", "account", "expires_at", "days", "paths"],
        ['"a, b; ""c"""', SECRET(1), "acme", "2099-01-02T03:04:05Z", "", ""],
        ["Übersee", f" {SECRET(2)} ", "acme", "", "7", '"/v1/a* /v1/b"'],
        [],
        ["expired", SECRET(3), "acme", "2020-01-01T00:00:00+01:00", "", ""],
    ]
    text = "\ufeff" + "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    status, report = admin.load(text)
    assert (status, report["created"], report["expired"]) == (0, 2, 1)
    assert admin.inspect(SECRET(1))["name"] == 'a, b; "c"'
    assert admin.inspect(SECRET(1))["expires_at"] == "2099-01-02T03:04:05Z"
    assert admin.inspect(SECRET(2))["paths"] == ["/v1/a*", "/v1/b"]


def test_every_fault_of_a_file_is_told_with_its_line_and_nothing_is_imported(admin: Admin) -> None:
    rows = [
        f"{SECRET(1)},acme,good,7",
        "short,acme,one,7",
        ",acme,two,7",
        f"sct_{'a' * 60},acme,three,7",
        f"{SECRET(2)},acmee,four,7",
        f"{SECRET(3)},gone,five,7",
        f"{SECRET(4)},acme,,7",
        f"{SECRET(5)},acme,six,soon",
        f"{SECRET(6)},acme,seven,",
        f"{SECRET(7)},brief,eight,31",
        f"{SECRET(1)},acme,nine,7",
        f"{SECRET(8)},acme,good,7",
        f"{SECRET(9)},acme,ten",
        "eyJhbGciOiJub25lIn0.e30.c2ln,acme,eleven,7",
    ]
    problems = admin.problems("\n".join(rows))
    expected = [
        "3: an imported token has 16 to 4096 visible ASCII characters",
        "4: the token is missing",
        "5: a token that begins with sct_ can't be imported",
        "6: the configuration declares no account 'acmee' (did you mean acme?)",
        "7: account gone is disabled",
        "8: give the token a name",
        "9: enter a whole number of days",
        "10: give either days (0: unlimited) or expires_at",
        "11: enter a whole number of days from 1 to 30",
        "12: the same token is in line 2",
        "13: account acme has a token of this name in line 2",
        "14: this row has 3 cells, the first line 4",
        "15: this JWT can't be imported: The token is not signed.",
    ]
    assert [p[: len(e)] for p, e in zip(problems, expected, strict=True)] == expected
    assert "legacy-token" not in "".join(problems)


def test_jwts_are_taken_over_like_any_token_with_a_note_on_the_better_way(admin: Admin) -> None:
    end = int(time.time()) + 3600
    rows = [
        f"{jwt_of({'sub': 'a'})},acme,unlimited,0",
        f"{jwt_of({'exp': end})},acme,limited,30",
        f"{SECRET(1)},acme,opaque,0",
    ]
    admin.csv.write_text(HEADER + "\n".join(rows))
    done = admin.run("token", "import", "--file", str(admin.csv))
    assert done.returncode == 0
    assert done.stdout.startswith("3 imported")
    assert "note: 2 JWTs imported" in done.stderr
    assert "jwt.trusted_issuers" in done.stderr
    assert admin.inspect(jwt_of({"sub": "a"}))["expires_at"] is None
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
    assert admin.inspect(jwt_of({"exp": end}))["expires_at"] == until


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        ("tomorrow", "expires_at is not a time like"),
        ("2099-01-01", "expires_at is not a time like"),
        ("2099-01-01T00:00:00", "expires_at is not a time like"),
        ("", "give either days"),
    ],
)
def test_an_end_is_a_time_with_an_offset(admin: Admin, end: str, problem: str) -> None:
    problems = admin.problems(f"{SECRET(1)},acme,a,{end}\n", "token,account,name,expires_at\n")
    assert problems[0].startswith(f"2: {problem}")


def test_a_token_may_not_live_longer_by_its_end_than_its_account_allows(admin: Admin) -> None:
    header = "token,account,name,expires_at\n"
    assert (
        "longer than 30 days"
        in admin.problems(f"{SECRET(1)},brief,a,2099-01-01T00:00Z\n", header)[0]
    )


def test_with_skip_invalid_the_good_rows_are_imported(admin: Admin) -> None:
    status, report = admin.load(HEADER + "bad,acme,x,0\n" + rows_of(3), "--skip-invalid")
    assert (status, report["created"], report["invalid"]) == (1, 3, 1)
    assert len(admin.names()) == 3


def test_what_the_store_has_otherwise_is_refused_before_anything_is_written(admin: Admin) -> None:
    admin.load(f"{HEADER}{SECRET(1)},acme,taken,0\n")
    clash = f"{SECRET(1)},acme,other,0\n{SECRET(2)},acme,taken,0\n{SECRET(3)},acme,free,0\n"
    status, report = admin.load(HEADER + clash)
    assert (status, report["created"], report["refused"]) == (1, 0, 2)
    told = [one["problem"] for one in report["problems"]]
    assert "another account, name or paths" in told[0]
    assert "already has a live token of this name" in told[1]
    assert admin.names() == ["taken"]
    status, report = admin.load(HEADER + clash, "--skip-invalid")
    assert (status, report["created"], report["refused"]) == (1, 1, 2)
    assert sorted(admin.names()) == ["free", "taken"]


def test_a_name_that_an_expired_token_had_is_free(admin: Admin, redis: RedisServer) -> None:
    admin.load(f"{HEADER}{SECRET(1)},acme,again,0\n")
    keys = redis.command("KEYS", "*token:*")
    redis.command("DEL", *[key.decode() for key in keys])
    ends = time.monotonic() + 20
    status = 1
    while status and time.monotonic() < ends:  # at first it may be a token in the making
        status, _ = admin.load(f"{HEADER}{SECRET(2)},acme,again,0\n")
        time.sleep(0.1)
    assert status == 0


def test_no_more_are_imported_than_the_account_may_have(admin: Admin) -> None:
    admin.load(f"{HEADER}{SECRET(90)},small,first,0\n")
    rows = rows_of(4, "small")
    status, report = admin.load(HEADER + rows)
    assert (status, report["created"], report["refused"]) == (1, 0, 2)
    assert [one["line"] for one in report["problems"]] == [4, 5]
    assert "may have 3" in report["problems"][0]["problem"]
    status, report = admin.load(HEADER + rows, "--skip-invalid")
    assert (report["created"], len(admin.names("small"))) == (2, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the first line has to name the columns"),
        ("token,account,name\n", "missing: days or expires_at"),
        ("account,name,days\n", "missing: token"),
        (f"{SECRET(1)},acme,a,0\n", "the first line has to name the columns"),
        ("token,account,name,days,colour\n", "1 of 5 columns that are not known"),
        ("token,account,name,days,days\n", "names a column twice"),
    ],
)
def test_the_first_line_names_the_columns(admin: Admin, text: str, problem: str) -> None:
    admin.csv.write_text(text)
    done = admin.run("token", "import", "--file", str(admin.csv))
    assert done.returncode == 2
    assert problem in done.stderr
    assert "legacy" not in done.stderr


def test_bytes_that_are_not_utf8_and_rows_that_are_not_csv_are_told_by_line(admin: Admin) -> None:
    rows = f'{SECRET(1)},acme,"a"b,0\n{SECRET(2)},acme,c,0\n'
    assert admin.problems(rows)[0].startswith("2: this is not CSV")
    admin.csv.write_bytes(HEADER.encode() + f"{SECRET(1)},acme,".encode() + b"\xff,0\n")
    done = admin.run("token", "import", "--file", str(admin.csv))
    assert (done.returncode, "line 2: this row is not UTF-8" in done.stderr) == (1, True)


def test_a_file_comes_from_standard_input_too(admin: Admin) -> None:
    done = admin.run("token", "import", "--file", "-", stdin=HEADER + rows_of(2))
    assert done.returncode == 0
    assert done.stdout.startswith("2 imported, 0 present already, 0 expired, 0 refused, 0 invalid")
    assert done.stderr.count("\n") <= 1, "no bar without a terminal"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--file", "x.csv", "--account", "acme"],
        ["--file", "x.csv", "--path", "/v1/a"],
        ["--account", "acme", "--name", "n"],
        ["--account", "acme", "--name", "n", "--days", "1", "--skip-invalid"],
    ],
)
def test_one_token_or_a_file_is_imported_and_not_both(admin: Admin, options: list[str]) -> None:
    done = admin.run("token", "import", *options, stdin=SECRET(1))
    assert done.returncode == 2
    assert "--file for many" in done.stderr


def test_an_import_is_one_line_of_the_audit(admin: Admin) -> None:
    admin.load(HEADER + rows_of(5))
    events = [json.loads(line) for line in admin.log.read_text().splitlines()]
    assert [(e["event"], e["created"]) for e in events] == [("tokens_restored", 5)]


def test_a_file_that_is_not_there_is_told(admin: Admin) -> None:
    done = admin.run("token", "import", "--file", "/nowhere/tokens.csv")
    assert done.returncode == 2
    assert "/nowhere/tokens.csv can't be read: No such file" in done.stderr
