"""``sidecar store``: a backup of all tokens as an admin makes it, and what comes back of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.cli.token_file import TokenFile
from sidecar.core.errors import UsageError
from sidecar.store.embedded import find_binary
from sidecar.store.port import Exported
from sidecar.store.token_lines import write_first, write_last, write_token
from tests.command_line import Run, run_command
from tests.contract.records import make_record
from tests.ports import free_port
from tests.proxy_process import run_sidecar
from tests.redis_servers import RedisServer, running_redis


class Admin:
    """A configuration on a Redis, with its log in a file, and the commands run with it."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.redis = redis
        self.config = directory / "sidecar.yaml"
        self.log = directory / "access.log"
        self.log.touch()
        settings: dict[str, Any] = {
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{free_port()}"}},
            "routes": [{"path": "/v1/{id}"}],
            "accounts": {"acme": {}},
            "store": {"url": redis.unix_url},
            "access_log": {"path": str(self.log)},
        }
        self.config.write_text(yaml.safe_dump(settings))

    def run(self, *words: str, stdin: str | None = None) -> Run:
        return run_command(*words, "--config", str(self.config), stdin=stdin)

    def create(self, name: str, days: int = 1) -> str:
        asked = ("--account", "acme", "--name", name, "--days", str(days))
        return self.run("token", "create", *asked).stdout.strip()

    def export(self) -> str:
        done = self.run("store", "export")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restore(self, lines: str, *options: str) -> tuple[int, dict[str, Any]]:
        done = self.run("store", "import", "--json", *options, stdin=lines)
        return done.returncode, json.loads(done.stdout)

    def audit_lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(str(find_binary()), tmp_path_factory.mktemp("r")) as server:
        yield server


@pytest.fixture
def admin(tmp_path: Path, redis: RedisServer) -> Admin:
    redis.command("FLUSHALL")
    return Admin(tmp_path, redis)


def counts(created: int = 0, present: int = 0, **more: int) -> dict[str, int]:
    zero = {"expired": 0, "refused": 0, "invalid": 0}
    return {"created": created, "present": present, **zero, **more}


def counts_in(summary: dict[str, Any]) -> dict[str, int]:
    return {name: summary[name] for name in counts()}


def test_an_export_goes_out_whole_and_says_how_much_it_is_beside_it(admin: Admin) -> None:
    token = admin.create("shop")
    done = admin.run("store", "export")
    first, *lines, last = map(json.loads, done.stdout.splitlines())
    assert (first["format"], first["version"]) == ("sidecar tokens", 1)
    assert [(line["account"], line["name"]) for line in lines] == [("acme", "shop")]
    assert last == {"tokens": 1}
    assert (done.returncode, done.stderr) == (0, "exported 1 token\n")
    assert token not in done.stdout


def test_an_empty_store_is_exported_and_imported_too(admin: Admin) -> None:
    assert admin.restore(admin.export()) == (
        0,
        {**counts(), "undeclared_accounts": [], "problems": []},
    )


def test_what_was_exported_comes_back_and_a_second_time_changes_nothing(admin: Admin) -> None:
    for name, days in (("shop", 1), ("erp", 0)):
        admin.create(name, days)
    lines, before = admin.export(), admin.run("token", "list", "--json").stdout
    admin.redis.command("FLUSHALL")
    assert counts_in(admin.restore(lines)[1]) == counts(created=2)
    assert admin.run("token", "list", "--json").stdout == before
    assert counts_in(admin.restore(lines)[1]) == counts(present=2)
    assert admin.run("token", "list", "--json").stdout == before


def test_both_leave_a_line_for_auditors(admin: Admin) -> None:
    admin.create("shop")
    lines = admin.export()
    admin.restore(lines)
    (exported,), (restored,) = map(admin.audit_lines, ("tokens_exported", "tokens_restored"))
    assert (exported["actor"], exported["tokens"]) == ("cli", 1)
    assert counts_in(restored) == counts(present=1)


def test_people_are_told_in_a_sentence(admin: Admin) -> None:
    admin.create("shop")
    done = admin.run("store", "import", stdin=admin.export())
    assert done.stdout == ("0 imported, 1 present already, 0 expired, 0 refused, 0 invalid\n")


def test_nothing_of_a_file_with_a_bad_line_is_imported_unless_asked(admin: Admin) -> None:
    for name in ("shop", "erp"):
        admin.create(name)
    lines = admin.export().splitlines(keepends=True)
    admin.redis.command("FLUSHALL")
    bad = "".join([lines[0], lines[1].replace('"digest":"', '"digest":"x'), *lines[2:]])
    done = admin.run("store", "import", stdin=bad)
    assert done.returncode == 1
    assert "line 2: digest is not 64 hexadecimal digits in lower case\n" in done.stderr
    assert "nothing was imported" in done.stderr
    assert admin.redis.command("KEYS", "*") == []
    status, summary = admin.restore(bad, "--skip-invalid")
    assert (status, counts_in(summary)) == (1, counts(created=1, invalid=1))
    assert summary["problems"] == [
        {"line": 2, "problem": "digest is not 64 hexadecimal digits in lower case"}
    ]


def exported_file(*numbers: int) -> list[bytes]:
    tokens = [write_token(Exported(make_record(number))) for number in numbers]
    return [write_first(1_790_000_000.0), *tokens, write_last(len(tokens))]


@pytest.mark.parametrize(
    ("lines", "line", "problem"),
    [
        (exported_file(1, 2)[:-1], 3, "the file ends after this line: the export was cut off"),
        (exported_file(1)[:1], 1, "the file ends after this line: the export was cut off"),
        ([*exported_file(1, 2)[:-2], write_last(2)], 3, "had 2 tokens, but 1 line came before"),
        ([*exported_file(1), *exported_file(2)[1:]], 4, "after the line that ends the export"),
        ([*exported_file(1)[:-1], b"x" * 200_000, write_last(2)], 3, "longer than any line"),
        ([*exported_file(1)[:-1], b'{"digest":', write_last(2)], 3, "not strict JSON"),
    ],
    ids=["cut off", "first line alone", "a line lost", "two files in one", "endless", "half"],
)
def test_a_file_that_is_not_whole_is_not_taken_for_one(
    lines: list[bytes], line: int, problem: str
) -> None:
    text = b"\n".join(part.rstrip(b"\n") for part in lines) + b"\n"
    with TokenFile(io.BytesIO(text)) as file:
        report = file.check()
    assert report.invalid
    assert any(at == line and problem in told for at, told in report.problems)


def test_blank_lines_do_no_harm() -> None:
    text = b"\r\n".join(part.rstrip(b"\n") for part in exported_file(1, 2)) + b"\r\n\r\n"
    with TokenFile(io.BytesIO(text)) as file:
        assert (file.check().invalid, len([*file.tokens()])) == (0, 2)


def test_a_file_of_bad_lines_is_told_of_without_telling_all_of_it(admin: Admin) -> None:
    lines = write_first(1.0) + b"{\n" * 5000 + write_last(5000)
    done = admin.run("store", "import", stdin=lines.decode())
    assert done.stderr.count("line ") == 20
    assert "and 4980 lines more; --json lists them" in done.stderr
    assert len(admin.restore(lines.decode())[1]["problems"]) == 1000


@pytest.mark.parametrize("text", ["", "sct_something\n", '{"format":"other"}\n', "\x00\xff"])
def test_what_is_no_export_at_all_is_misuse(admin: Admin, text: str) -> None:
    done = admin.run("store", "import", stdin=text)
    assert done.returncode == 2
    assert done.stderr.startswith("sidecar: this is not an export of tokens")


def test_an_export_of_a_later_version_is_not_guessed_at(admin: Admin) -> None:
    done = admin.run("store", "import", stdin='{"format":"sidecar tokens","version":9}\n')
    assert done.returncode == 2
    assert "import it with the release that wrote it, or a later one" in done.stderr


def test_tokens_of_an_account_that_is_not_declared_come_back_and_are_told_of(admin: Admin) -> None:
    denial = make_record(2, account="@denied")
    tokens = [Exported(make_record(1, account="gone")), Exported(denial)]
    text = write_first(1.0) + b"".join(map(write_token, tokens)) + write_last(2)
    status, summary = admin.restore(text.decode())
    assert (status, summary["undeclared_accounts"]) == (0, ["gone"])
    assert counts_in(summary) == counts(created=2)
    done = admin.run("store", "import", stdin=text.decode())
    assert "declares no account gone; their tokens are refused until it does" in done.stderr


def test_a_token_that_differs_by_now_stays_and_the_line_says_what_to_do(admin: Admin) -> None:
    admin.create("shop", days=0)
    lines = admin.export()
    token_id = json.loads(admin.run("token", "list", "--json").stdout)[0]["id"]
    admin.run("token", "rotate", token_id)
    before = admin.run("token", "list", "--json").stdout
    done = admin.run("store", "import", stdin=lines)
    assert done.returncode == 1
    assert "line 2: a token with this digest exists and differs" in done.stderr
    assert f"revoke {token_id} of acme first" in done.stderr
    assert admin.run("token", "list", "--json").stdout == before


def test_a_store_that_is_away_is_one_failure_that_says_so(admin: Admin, tmp_path: Path) -> None:
    lines = b"".join(exported_file(1)).decode()
    config = yaml.safe_load(admin.config.read_text())
    config["store"]["url"] = f"redis://127.0.0.1:{free_port()}"
    admin.config.write_text(yaml.safe_dump(config))
    for words in (("export",), ("import",)):
        done = admin.run("store", *words, stdin=lines)
        assert done.returncode == 1
        assert done.stderr.startswith("sidecar: store_unavailable: ")
    assert "the lines before line 2 are imported. Run the command again" in done.stderr


def test_what_comes_through_a_pipe_is_checked_first_as_well(admin: Admin) -> None:
    admin.create("shop")
    lines = admin.export()
    done = run_sidecar("store", "import", "--json", config=admin.config, stdin=lines)
    assert counts_in(json.loads(done.stdout)) == counts(present=1)
    done = run_sidecar("store", "import", config=admin.config, stdin=lines[:-5])
    assert done.returncode == 1
    assert "nothing was imported" in done.stderr


def test_a_file_can_be_named(admin: Admin, tmp_path: Path) -> None:
    admin.create("shop")
    file = tmp_path / "tokens.jsonl"
    file.write_text(admin.export())
    assert admin.run("store", "import", str(file)).stdout.startswith(
        "0 imported, 1 present already"
    )
    missing = admin.run("store", "import", str(tmp_path / "missing"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "No such file" in missing.stderr


class Endless(io.RawIOBase):
    """A pipe: it can't be rewound."""

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("a pipe")


def test_where_nothing_can_be_put_aside_it_says_how_to_do_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container with a read-only file system has no place for temporary files."""

    def refuse() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with TokenFile(Endless()) as file, pytest.raises(UsageError, match="sidecar store import FILE"):  # type: ignore[arg-type]
        file.check()
