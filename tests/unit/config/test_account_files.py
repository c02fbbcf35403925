"""Accounts in files of their own: read, checked, kept, and told with their own lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.config.account_files import AccountFiles
from sidecar.config.differences import differences
from sidecar.config.load import load
from sidecar.config.settings import Settings
from sidecar.core.errors import ConfigurationError

HASH = "$2y$10$cnbrfGPk2qPwz2A27i1J1.m/.DExEKX9b7JmeqKtu4biliJqLInkm"
MAIN = """\
upstreams: {listener: {url: "http://127.0.0.1:8080"}}
routes: [{path: "/v1/{id}", accounts: [acme, "@partners"]}]
accounts:
  acme: {groups: [partners]}
accounts_from: ["accounts.d/*.yaml", users.htpasswd]
"""


class Directory:
    """The directory of a configuration file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "accounts.d").mkdir()
        self.write("sidecar.yaml", MAIN)
        self.write("users.htpasswd", f"# made by htpasswd\n\nerp@shop.example:{HASH}\n")
        self.noted: list[Path] = []
        self.files = AccountFiles()

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def load(self) -> Settings:
        self.noted.clear()
        environ = {"GREETING": "hello", "HASH": HASH}
        return load(self.path / "sidecar.yaml", environ, self.noted.append, self.files)

    def problems(self) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            self.load()
        return [line.removeprefix(f"{self.path}/") for line in caught.value.problems]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_accounts_come_from_all_files(directory: Directory) -> None:
    directory.write("accounts.d/b.yaml", f"two:\n  password_hash: '{HASH}'\n  groups: [partners]\n")
    directory.write("accounts.d/a.yaml", 'accounts:\n  one: {paths: ["/v1/a*"], disabled: true}\n')
    known = directory.load().known_accounts
    assert [*known] == ["acme", "one", "two", "erp@shop.example"]
    assert known["two"].password_hash == known["erp@shop.example"].password_hash == HASH
    assert known["two"].groups == {"partners"}
    assert known["one"].disabled
    assert known["one"].paths.covers("/v1/a7")
    assert known["erp@shop.example"].max_tokens == 1000


@pytest.mark.parametrize("text", ["", "# nothing yet\n\n", "accounts: {}\n", "{}\n", "\ufeff# x"])
def test_a_file_may_hold_no_account(directory: Directory, text: str) -> None:
    directory.write("accounts.d/a.yaml", text)
    directory.write("users.htpasswd", "")
    assert [*directory.load().known_accounts] == ["acme"]


def test_an_account_may_be_called_accounts(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "accounts: {max_tokens: 5}\n")
    assert directory.load().known_accounts["accounts"].max_tokens == 5


def test_values_of_the_environment_and_of_files_are_replaced(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "one: {password_hash: '${HASH}'}\n")
    assert directory.load().known_accounts["one"].password_hash == HASH


FAULTS = {
    "accounts.d/a.yaml": [
        ("one: {pasword_hash: x}\n", "1:7: accounts.one.pasword_hash: there is no such key"),
        (
            "one: {password_hash: hunter2}\n",
            "1:22: accounts.one.password_hash: this value is of no",
        ),
        ("a b: {}\n", "1:1: accounts: 'a b' is not an account name"),
        ("one: {}\none: {}\n", "2:1: the key 'one' is already in line 1"),
        ("one: {paths: [v1]}\n", "1:15: accounts.one.paths[0]: 'v1' is not a path pattern"),
        ("one:\n", "1:5: accounts.one: there is no value"),
        ("one: {groups: ['@partners']}\n", "1:16: accounts.one.groups[0]: '@partners' is not"),
        ("- one\n", "1:1: the file is not a mapping"),
        ("one: [\n", "2:1: this is not YAML"),
        ("acme: {}\n", "1:1: accounts.acme: this account is declared at {}/sidecar.yaml:4:3 too"),
    ],
    "users.htpasswd": [
        ("one\n", "1:1: this line is not an account; write name:hash"),
        (f"\na b:{HASH}\n", "2:1: this line begins with what is not an account name"),
        (f"one:{HASH}\ntwo:x\none:{HASH}\n", "2:1: this line has a hash that is of no kind"),
        (f"one:{HASH}\n\none:{HASH}\n", "3:1: this line has an account that is in line 1 too"),
        ("one:$apr1$dayhI1kW$3fieyw.XIJ4NAHCxideFy.\n", "1:1: this line has a hash that is an MD5"),
        (f"acme:{HASH}\n", "1:1: accounts.acme: this account is declared at {}/sidecar.yaml:4:3"),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [(name, text, problem) for name, rows in FAULTS.items() for text, problem in rows],
)
def test_a_fault_is_told_with_its_own_line(
    directory: Directory, name: str, text: str, problem: str
) -> None:
    directory.write(name, text)
    problems = directory.problems()
    assert problems[0].startswith(f"{name}:{problem.format(directory.path)}")
    assert "hunter2" not in "".join(problems)


def test_a_name_in_two_files_is_told_with_both_places(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "one: {}\nerp@shop.example: {}\n")
    directory.write("accounts.d/b.yaml", "# two\n\nzero: {}\none: {}\n")
    first, second = directory.problems()
    place = f"{directory.path}/accounts.d/a.yaml"
    assert first.startswith(
        f"accounts.d/b.yaml:4:1: accounts.one: this account is declared at {place}:1:1"
    )
    assert second.startswith(
        f"users.htpasswd:3:1: accounts.erp@shop.example: this account is declared at {place}:2:1"
    )


def test_every_file_s_faults_are_told_at_once(directory: Directory) -> None:
    directory.write("sidecar.yaml", MAIN.replace("path:", "pth:"))
    directory.write("accounts.d/a.yaml", "one: {x: 1}\n")
    directory.write("users.htpasswd", "two\n")
    assert [line.split(":")[0] for line in directory.problems()] == [
        "sidecar.yaml",
        "accounts.d/a.yaml",
        "users.htpasswd",
    ]


def test_a_file_without_wildcards_must_be_there(directory: Directory) -> None:
    (directory.path / "users.htpasswd").unlink()
    assert directory.problems()[0].startswith("users.htpasswd:1:1: the file can't be read (No such")


def test_bytes_that_are_not_utf8_are_told_by_line(directory: Directory) -> None:
    (directory.path / "users.htpasswd").write_bytes(b"#\n#\n\xff\n")
    assert directory.problems() == ["users.htpasswd:3:1: this is not UTF-8; save the file as UTF-8"]


def test_a_route_may_name_accounts_and_groups_of_files(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "one: {groups: [retail]}\n")
    listed = '["@retail", one, erp@shop.example]'
    directory.write("sidecar.yaml", MAIN.replace('[acme, "@partners"]', listed))
    directory.load()
    directory.write("sidecar.yaml", MAIN.replace('[acme, "@partners"]', '["@retial", onee]'))
    problems = [line.partition(": ")[2] for line in directory.problems()]
    assert problems == [
        "routes[0].accounts[0]: there is no group '@retial'; did you mean @retail?",
        "routes[0].accounts[1]: there is no account 'onee'; did you mean one?",
    ]


def test_every_file_and_the_directory_is_watched(directory: Directory) -> None:
    first = directory.write("accounts.d/a.yaml", "one: {}\n")
    directory.load()
    assert {first, directory.path / "accounts.d", directory.path / "users.htpasswd"} <= {
        *directory.noted
    }


def test_a_file_that_has_not_changed_is_not_read_again(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "one: {}\n")
    before = directory.load().known_accounts
    directory.write("users.htpasswd", f"new:{HASH}\n")
    after = directory.load().known_accounts
    assert after["one"] is before["one"]
    assert "new" in after
    assert "erp@shop.example" not in after


def test_a_file_that_is_replaced_with_the_same_size_and_time_is_read_again(
    directory: Directory,
) -> None:
    old = directory.write("accounts.d/a.yaml", "one: {}\n")
    directory.load()
    new = directory.write("accounts.d/new", "two: {}\n")
    stat = old.stat()
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.rename(old)
    assert "two" in directory.load().known_accounts


def test_what_changed_is_said_by_name_or_by_number(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "one: {}\ntwo: {}\n")
    before = directory.load()
    directory.write("accounts.d/a.yaml", "two: {disabled: true}\nthree: {}\n")
    assert differences(before, directory.load()) == [
        "accounts.three added",
        "accounts.one removed",
        "accounts.two changed",
    ]
    directory.write("accounts.d/a.yaml", "".join(f"n{number}: {{}}\n" for number in range(30)))
    assert differences(before, directory.load()) == ["accounts_from: 30 added, 2 removed"]


def test_settings_that_were_read_alike_are_equal(directory: Directory) -> None:
    directory.write("accounts.d/a.yaml", "one: {}\n")
    first, second = directory.load(), directory.load()
    assert first.known_accounts
    assert first == second
    directory.write("accounts.d/a.yaml", "one: {disabled: true}\n")
    assert first != directory.load()
