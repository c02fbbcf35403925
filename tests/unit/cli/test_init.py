"""``sidecar init``: whatever the answers, what it writes passes a strict check."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import string
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.cli.init import _config_option
from sidecar.cli.main import build_parser
from sidecar.cli.new_configuration import NAME, Answers, sample_call, sample_path
from sidecar.config.load import load
from sidecar.core.passwords import verify
from sidecar.core.patterns import BadPattern, compile_pattern
from sidecar.runtime.build import own_keys
from tests.command_line import Run, run_command

UPSTREAMS = ["http://127.0.0.1:8080", "https://api.example.com", "unix:/run/service.sock"]
PATHS = [["/**"], ["/v1/dynamic/listener/{id}", "/status"]]
ACCOUNTS = ["acme", "true", "1e3", "-", "null", "jane.doe+shop@example.com", "0x1F", "@"]
STORES = ["embedded", "redis://:p%23ss@redis.internal:6379/2", "rediss://h/0", "unix:///run/r.sock"]
MATRIX = [
    *product(UPSTREAMS, PATHS[:1], ACCOUNTS[:1], STORES[:1], [True, False]),
    *product(UPSTREAMS[:1], PATHS[1:], ACCOUNTS[1:2], STORES[1:], [True]),
    *product(UPSTREAMS[:1], PATHS[:1], ACCOUNTS[2:], STORES[:1], [False]),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    return tmp_path


def check(file: Path) -> Run:
    return run_command("check", "--strict", config=file)


@pytest.mark.parametrize(("upstream", "paths", "account", "store", "signs"), MATRIX)
def test_what_it_writes_passes_a_strict_check_with_no_warning(
    upstream: str, paths: list[str], account: str, store: str, signs: bool
) -> None:
    named = [word for path in paths for word in ("--path", path)]
    done = run_command(
        *("init", "--upstream", upstream, f"--account={account}", "--store", store, *named),
        *(["--jwt"] if signs else ["--no-jwt"]),
    )
    assert done.returncode == 0, done.stderr
    checked = check(Path(NAME))
    assert (checked.returncode, checked.stderr) == (0, "")
    settings = load(Path(NAME), {})
    assert [route.path for route in settings.routes] == paths
    assert [*settings.accounts] == [account]
    assert settings.store.url == store
    assert len(own_keys(settings)) == signs


NAMES = st.text(st.sampled_from(string.ascii_letters + string.digits + "._@+-"), min_size=1)
ANYTHING = st.text(st.characters(exclude_characters="\0"), max_size=40)


@given(
    upstream=ANYTHING.map("http://127.0.0.1:80".__add__) | ANYTHING,
    path=ANYTHING.map("/".__add__) | ANYTHING,
    account=NAMES | ANYTHING,
    store=st.just("embedded") | ANYTHING.map("redis://h/".__add__) | ANYTHING,
)
@example("http://a: b # c", "/**", "acme", "embedded")
@example("http://a", "/a: b #{x}", "null", "embedded")
@example("http://a", "/x", "\udcff", "embedded")
@example("http://a", "/x", "acme", "redis://h/0\nlisten: {}")
@example("http://a", "/%7Ba", "-", "${HOME}")
@example("http://a", "/:id", "acme", "embedded")
def test_odd_answers_make_a_file_that_passes_or_none_and_a_reason(
    upstream: str, path: str, account: str, store: str
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "new", NAME)
        done = run_command(
            *("init", f"--upstream={upstream}", f"--path={path}", f"--account={account}"),
            *(f"--store={store}", "--yes", str(file.parent)),
        )
        if done.returncode:
            assert done.returncode == 2
            assert done.stderr.startswith("sidecar: ")
            assert done.stderr.endswith("Nothing was written\n")
            assert not file.parent.exists()
        else:
            checked = check(file)
            assert (checked.returncode, checked.stderr) == (0, "")
            assert [*load(file, os.environ).accounts] == [account]


def test_without_options_or_a_terminal_the_defaults_count() -> None:
    assert run_command("init").returncode == 0
    settings = load(Path(NAME), {})
    assert str(settings.upstreams["service"].url) == "http://127.0.0.1:8080"
    assert [*settings.accounts] == ["acme"]
    assert settings.store.url == "embedded"
    assert len(Path(NAME).read_text().splitlines()) <= 40


def test_the_password_is_shown_once_and_its_hash_is_written() -> None:
    made = json.loads(run_command("init", "--json").stdout)
    password = made["password"]
    assert password not in Path(NAME).read_text()
    (account,) = load(Path(NAME), {}).accounts.values()
    assert account.password_hash is not None
    assert verify(password, account.password_hash)


def test_a_password_from_standard_input_is_not_repeated() -> None:
    done = run_command("init", "--password-stdin", stdin="correct horse\n")
    assert "correct horse" not in done.stdout + done.stderr
    (account,) = load(Path(NAME), {}).accounts.values()
    assert account.password_hash is not None
    assert verify("correct horse", account.password_hash)
    again = run_command("init", "other", "--password-stdin", "--json", stdin="correct horse\n")
    assert json.loads(again.stdout)["password"] is None


@pytest.mark.parametrize("stdin", ["", "\n", "two\nlines\n", "x" * 1025])
def test_an_impossible_password_leaves_nothing_behind(stdin: str, elsewhere: Path) -> None:
    assert run_command("init", "new", "--password-stdin", stdin=stdin).returncode == 2
    assert [*elsewhere.iterdir()] == []


def test_secrets_are_for_nobody_else() -> None:
    before = os.umask(0)
    try:
        assert run_command("init", "--jwt").returncode == 0
    finally:
        os.umask(before)
    key = Path("keys", f"{Answers().key_id}.pem")
    modes = {path: oct(path.stat().st_mode & 0o777) for path in (Path(NAME), key, key.parent)}
    assert modes == {Path(NAME): "0o640", key: "0o600", key.parent: "0o700"}
    assert "*" in Path("keys", ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("existing", [NAME, f"keys/{Answers().key_id}.pem"])
@pytest.mark.parametrize("is_link", [True, False], ids=["a dangling link", "a file"])
def test_nothing_is_ever_overwritten(existing: str, is_link: bool, elsewhere: Path) -> None:
    file = Path(existing)
    file.parent.mkdir(exist_ok=True)
    if is_link:
        file.symlink_to("nowhere")
    else:
        file.write_text("mine")
    done = run_command("init", "--jwt", "--yes")
    assert done.returncode == 2
    assert f"{existing} exists" in done.stderr
    kept = [path for path in elsewhere.rglob("*") if not path.is_dir()]
    assert kept == [elsewhere / existing]
    assert is_link or file.read_text() == "mine"


def test_what_cannot_be_written_whole_is_not_written(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device", NAME)

    monkeypatch.setattr("sidecar.cli.init.problems_of", lambda *_: [])
    monkeypatch.setattr("sidecar.cli.init.write_configuration", fail)
    done = run_command("init", "--jwt")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No space left" in done.stderr
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("account", ["-x", "--json", "-", "a@b"])
def test_the_next_commands_are_ones_for_any_name(account: str, elsewhere: Path) -> None:
    done = run_command("init", f"--account={account}", "--", "-d")
    (line,) = re.findall(r"^  TOKEN=\$\((.*)\)$", done.stdout, re.M)
    asked = build_parser().parse_args(shlex.split(line)[1:])
    assert (asked.account, asked.config) == (account, Path("-d", NAME))


@pytest.mark.parametrize(
    ("directory", "named"),
    [
        (".", []),
        ("config", []),
        ("a b", ["--config", "a b/sidecar.yaml"]),
        ("$HOME", ["--config", "$HOME/sidecar.yaml"]),
    ],
)
def test_the_next_commands_name_the_file_where_it_would_not_be_found(
    directory: str, named: list[str]
) -> None:
    done = run_command("init", directory, "--account", "a@b")
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    commands = [re.sub(r"^TOKEN=\$\((.*)\)$", r"\1", line) for line in lines]
    own = [shlex.split(line) for line in commands if line.startswith("sidecar ")]
    assert [words[1] for words in own] == ["check", "run", "token", "token", "token"]
    for words in own:
        assert build_parser().parse_args(words[1:]).run
        assert words[len(words) - len(named) :] == named
        assert ("--config" in words) == bool(named)


def test_another_file_in_the_environment_makes_the_next_commands_name_theirs(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    (elsewhere / NAME).touch()
    assert _config_option(Path(NAME)) == ""
    monkeypatch.setenv("SIDECAR_CONFIG", "/etc/sidecar/sidecar.yaml")
    assert _config_option(Path(NAME)) == " --config sidecar.yaml"
    monkeypatch.setenv("SIDECAR_CONFIG", str(elsewhere / NAME))
    assert _config_option(Path(NAME)) == ""


@given(
    st.lists(st.sampled_from(["a", "{x}", "*", "b*", "/", "//", "/**", "%7B", "~"])).map("".join)
)
def test_the_sample_path_is_one_that_the_pattern_matches(rest: str) -> None:
    try:
        pattern = compile_pattern(f"/{rest}")
    except BadPattern:
        return
    assert pattern.regex.fullmatch(sample_path(f"/{rest}"))


@pytest.mark.parametrize(
    ("listen", "call"),
    [
        ("127.0.0.1:2020", ((), "http://127.0.0.1:2020/x")),
        ("0.0.0.0:80", ((), "http://127.0.0.1:80/x")),
        ("[::]:2020", ((), "http://[::1]:2020/x")),
        ("unix:/run/s.sock", (("--unix-socket", "/run/s.sock"), "http://localhost/x")),
    ],
)
def test_the_sample_call_goes_to_where_the_sidecar_listens(
    listen: str, call: tuple[tuple[str, ...], str]
) -> None:
    assert sample_call(listen, "/x") == call


@pytest.mark.parametrize(
    ("listen", "others"),
    [
        ("127.0.0.1:3000", ("127.0.0.1:3001", "127.0.0.1:3002")),
        ("0.0.0.0:65534", ("127.0.0.1:65533", "127.0.0.1:65532")),
        ("unix:/run/s.sock", ("127.0.0.1:2021", "127.0.0.1:2022")),
    ],
)
def test_the_page_and_operations_are_beside_the_listener(
    listen: str, others: tuple[str, str]
) -> None:
    assert run_command("init", "--listen", listen).returncode == 0
    answers = Answers(listen=listen)
    assert (answers.portal, answers.operations) == others
    assert check(Path(NAME)).returncode == 0


def test_a_missing_redis_is_told_of_before_it_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sidecar.store.embedded.find_spec", lambda _: None)
    assert "note: store.url is embedded and there is no Redis" in run_command("init").stdout
    other = run_command("init", "other", "--store", "redis://h/0").stdout
    assert "note:" not in other


def test_input_that_is_closed_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.cli.main import main

    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["init"]) == 0
    assert Path(NAME).exists()
