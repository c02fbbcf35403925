"""What is valid and probably not meant is a warning with its place; what is meant is none."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.config.certificate_warnings import judge_file
from sidecar.config.document import compose
from sidecar.config.exposure_warnings import EXAMPLE_HASHES, warn_of_exposure
from sidecar.config.load import load
from sidecar.config.route_warnings import warn_of_routes
from sidecar.config.settings import Settings
from sidecar.config.warnings import ConfigurationWarning, excerpt, warnings_of

ROOT = Path(__file__).resolve().parents[3]
HASH = next(iter(EXAMPLE_HASHES))
HEAD = "upstreams: {a: {url: 'http://a:1'}}\n"
MINIMAL: dict[str, Any] = {"upstreams": {"a": {"url": "http://a:1"}}, "routes": [{"path": "/x"}]}


def warnings_in(
    directory: Path, text: str, environ: Mapping[str, str] | None = None
) -> list[ConfigurationWarning]:
    path = directory / "sidecar.yaml"
    path.write_text(text)
    found: list[ConfigurationWarning] = []
    load(path, environ or {}, warn=found.append)
    return found


def sentences_in(directory: Path, text: str) -> list[str]:
    """Return the warnings without the directory, which differs from test to test."""
    return [
        warning.sentence.removeprefix(f"{directory}/sidecar.yaml:")
        for warning in warnings_in(directory, text)
    ]


def routes(*routes: str, more: str = "") -> str:
    return HEAD + "routes:\n" + "".join(f"  - {route}\n" for route in routes) + more


# The routes, and the lines of those that nothing is left for, with a part of what is said.
HIDDEN = {
    "a public rest first": (
        routes("{path: '/**', public: true}", "{path: '/v1/{id}'}"),
        ["4:12: routes[1].path: routes[0] (/**, public) already matches all of its requests, and"],
        "so nobody is asked for a credential",
    ),
    "a wider rest": (routes("path: /v1/**", "path: /v1/a/{id}"), ["4:11: "], "move it up"),
    "the same placeholder by another name": (
        routes("path: /v1/{id}", "path: /v1/{name}"),
        ["4:11: "],
        "this route never decides",
    ),
    "the same text": (routes("path: /v1", "path: /v1"), ["4:11: "], "routes[0] (/v1)"),
    "the same path, encoded": (routes("path: /v1", "path: /%761"), ["4:11: "], ""),
    "asterisks": (routes("path: /*.js", "path: /app*.js"), ["4:11: "], ""),
    "an asterisk over a placeholder": (routes("path: /a/*", "path: /a/{b}"), ["4:11: "], ""),
    "the rest of nothing": (routes("path: /a/**", "path: /a"), ["4:11: "], ""),
    "any method over one": (
        routes("path: /a", "{path: /a, methods: [GET]}"),
        ["4:12: "],
        "all of its requests",
    ),
    "several methods over fewer": (
        routes("{path: '/**', methods: [GET, POST]}", "{path: /a, methods: [GET]}"),
        ["4:12: "],
        "",
    ),
    "two routes with the methods of one": (
        routes(
            "{path: /a, methods: [GET]}",
            "{path: '/**', methods: [POST]}",
            "{path: /a, methods: [POST, GET]}",
        ),
        ["5:12: "],
        "routes[0] (/a) and routes[1] (/**) already match all of its requests",
    ),
    "one of the methods that it names": (
        routes("{path: '/**', methods: [GET], public: true}", "{path: /a, methods: [POST, GET]}"),
        ["4:12: "],
        "matches its GET requests, and the first match wins, so nobody is asked for a credential",
    ),
    "two of them hidden": (
        routes("path: /a/**", "path: /a/b", "path: /a/c"),
        ["4:11: ", "5:11: "],
        "",
    ),
}


@pytest.mark.parametrize(("text", "begins", "holds"), HIDDEN.values(), ids=HIDDEN)
def test_a_route_that_earlier_ones_leave_nothing_is_warned_of(
    tmp_path: Path, text: str, begins: list[str], holds: str
) -> None:
    found = sentences_in(tmp_path, text)
    assert len(found) == len(begins)
    assert all(one.startswith(begin) for one, begin in zip(found, begins, strict=True)), found
    assert holds in found[0]


def test_a_path_from_outside_the_file_is_not_shown(tmp_path: Path) -> None:
    text = routes("path: ${OUTSIDE}", "path: ${OUTSIDE}", "path: '${OTHER}'")
    found = warnings_in(tmp_path, text, {"OUTSIDE": "/topsecret", "OTHER": "/a/:topsecret"})
    assert len(found) == 2
    assert "routes[0] (the value of ${OUTSIDE}) already matches" in found[0].text
    assert "another program matches only itself, letter by letter; for any one" in found[1].text
    assert not any("topsecret" in f"{one.text}{one.excerpt}" for one in found)


NOT_HIDDEN = {
    "the narrow one first": routes("path: /v1/a", "path: /v1/{id}", "path: /v1/**"),
    "a public rest last": routes("path: /v1/{id}", "{path: '/**', public: true}"),
    "another depth": routes("path: /v1/{id}", "path: /v1/{id}/x"),
    "an empty segment": routes("path: /v1/{id}", "path: /v1/", "path: /v1/*"),
    "another letter case": routes("path: /V1/**", "path: /v1/**"),
    "other methods": routes(
        "{path: /a, methods: [GET], public: true}", "{path: /a, methods: [PUT]}"
    ),
    "what remains of the methods": routes("{path: /a, methods: [GET], public: true}", "path: /a"),
    "a part of an asterisk": routes("path: /a*", "path: /*b"),
    "a rest below a placeholder": routes("path: /{a}", "path: /{a}/**"),
    "an ordinary file": routes("{path: /status, public: true}", "path: /v1/{id}"),
}


@pytest.mark.parametrize("text", NOT_HIDDEN.values(), ids=NOT_HIDDEN)
def test_a_route_that_decides_something_is_not_warned_of(tmp_path: Path, text: str) -> None:
    assert sentences_in(tmp_path, text) == []


SPELLINGS = {
    "/v1/:id": "write {id}",
    "/v1/:user_id/x": "write {user_id}",
    "/v1/<id>": "write {id}",
    "/v1/<int:id>": "write {id}",
    "/v1/$id": "write {id}",
    "/v1/$userId": "write {userId}",
    "/v1/[id]": "write {id}",
    "/v1/[...slug]": "write {slug}",
    "/v1/.*": "regular expression",
    "/v1/.+": "regular expression",
    "/v1/(.*)": "regular expression",
    "/v1/[0-9]+": "regular expression",
    "/v1/[^/]+": "regular expression",
    "/v1/(a|b)": "regular expression",
    "/v1/items$": "regular expression",
    "/v1/...": "regular expression",
}


@pytest.mark.parametrize(("path", "meant"), SPELLINGS.items())
def test_a_placeholder_of_another_program_is_warned_of(
    tmp_path: Path, path: str, meant: str
) -> None:
    (found,) = sentences_in(tmp_path, routes(f"path: '{path}'"))
    assert found.startswith("3:11: routes[0].path: ")
    assert meant in found
    text = routes("path: /**", more=f"accounts: {{a: {{paths: ['{path}']}}}}\n")
    assert any(
        meant in one and "accounts.a.paths[0]" in one for one in sentences_in(tmp_path, text)
    )


@pytest.mark.parametrize(
    "path",
    [
        *("/odata/$metadata", "/odata/$batch", "/fhir/{type}/$everything", "/v1/items:cancel"),
        *("/v1/report.*", "/v1/*.json", "/a(1)", "/a[1]", "/v1/~user", "/@scope/{name}", "/a+b"),
        *("/.well-known/**", "/v1/{id}/**", "/c++/x", "/price$5", "/a;v=1/b", "/v1:batch"),
    ],
)
def test_an_unusual_path_is_not_taken_for_another_program_s(tmp_path: Path, path: str) -> None:
    assert sentences_in(tmp_path, routes(f"path: '{path}'")) == []


UNUSED = {
    "accounts: {a: {paths: ['/v2/x']}}": "accounts.a.paths[0]: no route that lets a in matches",
    "accounts: {a: {paths: ['/v1/{id}', '/v1/a/b']}}": "accounts.a.paths[1]: no route",
    "accounts: {a: {paths: ['/v1/']}}": "accounts.a.paths[0]: no route",
    "accounts: {a: {paths: ['/V1/**']}}": "accounts.a.paths[0]: no route",
    "accounts: {a: {paths: ['/open']}}": "accounts.a.paths[0]: no route",
    "accounts: {a: {paths: ['/b/only']}, b: {}}": "accounts.a.paths[0]: no route",
}


@pytest.mark.parametrize(("more", "expected"), UNUSED.items())
def test_a_path_of_an_account_that_no_route_can_match_is_warned_of(
    tmp_path: Path, more: str, expected: str
) -> None:
    first = ("path: /v1/{id}", "{path: /open, public: true}")
    third = ("{path: /b/only, accounts: [b]}",) if "b: {}" in more else ()
    (found,) = sentences_in(tmp_path, routes(*first, *third, more=f"{more}\n"))
    assert expected in found


@pytest.mark.parametrize("path", ["/**", "/v1/*", "/v1/a*", "/{v}/x", "/v1/{id}/**", "/v1/%41"])
def test_a_path_of_an_account_that_some_route_can_match_is_not_warned_of(
    tmp_path: Path, path: str
) -> None:
    more = f"accounts: {{a: {{paths: ['{path}']}}}}\n"
    assert sentences_in(tmp_path, routes("path: /v1/{id}", more=more)) == []


def file(**more: Any) -> str:
    return yaml.safe_dump({**MINIMAL, **more}, sort_keys=False)


TWO: dict[str, Any] = {
    "a": {"url": "http://a:1"},
    "b": {"url": "https://b:1", "tls": {"verify": False}},
}
PLAIN: dict[str, Any] = {"a": {"url": "http://a:1"}, "b": {"url": "http://b:1"}}
ONLY_B = [{"path": "/x", "upstream": "b", "accounts": ["one"]}]
EXPOSED: dict[str, dict[str, Any]] = {
    "upstreams.a: no route uses 'a'": {
        "upstreams": PLAIN,
        "routes": ONLY_B,
        "accounts": {"one": {}},
    },
    "upstreams.b.tls.verify: the upstream's certificate is not verified": {
        "upstreams": TWO,
        "routes": [*ONLY_B, {"path": "/y", "upstream": "a"}],
        "accounts": {"one": {}},
    },
    "accounts.two: no route lets this account in": {
        "routes": [{"path": "/x", "accounts": ["one"]}],
        "accounts": {"one": {}, "two": {}, "off": {"disabled": True}},
    },
    "accounts.one: every route is public": {
        "routes": [{"path": "/x", "public": True}],
        "accounts": {"one": {}},
    },
    "accounts.one.password_hash: this is the example's": {
        "accounts": {"one": {"password_hash": HASH}}
    },
    **{
        f"{section}.address: this is every address{'' if section == 'portal' else ' of'}": {
            section: {"address": address}
        }
        for section, address in (("portal", "0.0.0.0:2021"), ("operations", "[::]:2022"))
    },
    "trusted_proxies[0]: every caller": {"trusted_proxies": ["0.0.0.0/0", "10.0.0.0/8"]},
}


@pytest.mark.parametrize(("expected", "more"), EXPOSED.items())
def test_what_is_left_open_or_unused_is_warned_of(
    tmp_path: Path, expected: str, more: dict[str, Any]
) -> None:
    found = sentences_in(tmp_path, file(**more))
    assert len([one for one in found if expected in one]) == 1, found
    assert len(found) == 1


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "[::0]:1", "[0:0::0]:1", "[::ffff:0.0.0.0]:1", "8.8.8.8:1"]
)
@pytest.mark.parametrize("section", ["portal", "operations"])
def test_every_spelling_of_every_address_is_warned_of(
    tmp_path: Path, section: str, address: str
) -> None:
    (found,) = sentences_in(tmp_path, file(**{section: {"address": address}}))
    assert f"{section}.address: " in found


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/x.sock", "10.1.2.3:1", "app:1"]
)
@pytest.mark.parametrize("section", ["portal", "operations"])
def test_an_address_of_one_network_is_not_warned_of(
    tmp_path: Path, section: str, address: str
) -> None:
    assert sentences_in(tmp_path, file(**{section: {"address": address}})) == []


@pytest.mark.parametrize(
    ("network", "is_wide"),
    [
        *(("0.0.0.0/0", True), ("::/0", True), ("128.0.0.0/1", True), ("0.0.0.0/1", True)),
        *(("::ffff:0:0/96", True), ("2000::/3", True), ("2000::/16", False)),
        *(("10.0.0.0/8", False), ("fc00::/7", False), ("fd00::/8", False), ("127.0.0.1", False)),
        *(("2400:cb00::/32", False), ("::ffff:10.0.0.0/104", False), ("104.16.0.0/13", False)),
    ],
)
def test_networks_that_hold_everybody_are_warned_of(
    tmp_path: Path, network: str, is_wide: bool
) -> None:
    found = sentences_in(tmp_path, file(trusted_proxies=[network]))
    assert [one.split(": ")[1] for one in found] == ["trusted_proxies[0]"] * is_wide


# Where a warning points to, and what of the line is shown.


def test_a_warning_has_a_line_and_a_caret(tmp_path: Path) -> None:
    (found,) = warnings_in(tmp_path, routes("path: /v1/:id  # a comment"))
    assert (found.line, found.column) == (3, 11)
    line, caret = found.excerpt.splitlines()
    assert line[caret.index("^") :].startswith("/v1/:id")


@pytest.mark.parametrize(
    ("line", "column", "shown"),
    [
        ("  - path: /v1/:id", 11, "      - path: /v1/:id\n              ^"),
        ("  - {path: '/v1/:id', x: 1}", 12, "      - {path: '/v1/:id' …\n               ^"),
        ("  a: {password_hash: s3cret, paths: [/x]}", 38, "    … /x\n      ^"),
        ("    password_hash: s3cret", 5, "        password_hash: …\n        ^"),
        ("  a: {password_hash: s3cret}", 7, "    … password_hash: …\n      ^"),
        ("url: redis://:s3cret@h", 1, "    url: …\n    ^"),
        ("  - path: ${X:-s3cret}", 11, "      - path:  …\n              ^"),
        ("  - {verify: false}", 14, "      - {verify: false\n                 ^"),
        ("  - path: '/a b s3cret", 11, "      - path:  …\n              ^"),
        ("", 1, "    \n    ^"),
    ],
)
def test_an_excerpt_shows_one_word_and_the_keys_before_it(
    line: str, column: int, shown: str
) -> None:
    assert "s3cret" not in excerpt(line, column)
    assert excerpt(line, column) == shown


def test_a_warning_that_is_meant_is_marked_on_its_line(tmp_path: Path) -> None:
    text = file() + "operations:\n  address: 0.0.0.0:2022  # deliberate: only the pod's network\n"
    assert sentences_in(tmp_path, text) == []
    assert sentences_in(tmp_path, text.replace("# deliberate", "# deliberately not"))
    assert sentences_in(tmp_path, text.replace("# deliberate", "# not deliberate"))


def test_warnings_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = file(trusted_proxies=["::/0"], portal={"address": "0.0.0.0:1"}) + "workers: 2\n"
    lines = [warning.line for warning in warnings_in(tmp_path, text)]
    assert lines == sorted(lines)
    assert len(lines) == 2


def test_five_thousand_routes_are_compared_with_little_work(tmp_path: Path) -> None:
    """The suite's time-out says so: comparing each account with each route takes minutes."""
    many = [{"path": f"/v1/service-{i}/{{id}}/*", "accounts": [f"a{i}"]} for i in range(5000)]
    accounts = {f"a{i}": {"paths": [f"/v1/service-{i}/x*/**"]} for i in range(5000)}
    text = yaml.safe_dump({**MINIMAL, "routes": many})
    root, _ = compose(text + yaml.safe_dump({"accounts": accounts}), str)
    assert [*warn_of_routes(root)] == []


# Files that others can read.


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, unlike those of the tests."""
    path = Path("/tmp") / f"sidecar-open-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir(mode=0o755)
    yield path
    for entry in path.iterdir():
        entry.unlink()
    path.rmdir()


KEY = "${file:secret}"
SECRETS = {
    "a password in the store's URL": ("store: {url: 'redis://:pw@h/0'}\n", "store.url: the file"),
    "one in its options": ("store: {url: 'redis://h/0?password=pw'}\n", "store.url: the file"),
    "a header for the collector": (
        "tracing: {headers: {Authorization: abc}}\n",
        "tracing.headers.Authorization: the file holds this secret",
    ),
    "a header from a file": (
        f"tracing: {{headers: {{Authorization: '{KEY}'}}}}\n",
        "tracing.headers.Authorization: every user of this machine can read",
    ),
    "the password from a file": (
        f"store: {{url: 'redis://:{KEY}@h/0'}}\n",
        "store.url: every user of this machine can read",
    ),
    "a URL without a password": ("store: {url: 'redis://h/0'}\n", ""),
    "a password from the environment": ("store: {url: 'redis://:${PW}@h/0'}\n", ""),
}


@pytest.mark.parametrize(("more", "expected"), SECRETS.values(), ids=SECRETS)
def test_a_secret_that_every_user_can_read_is_warned_of(
    open_directory: Path, more: str, expected: str
) -> None:
    (open_directory / "secret").write_text("topsecret")
    for mode in (0o644, 0o640):
        for name in ("secret", "sidecar.yaml"):
            (open_directory / name).touch()
            (open_directory / name).chmod(mode)
        found = warnings_in(open_directory, file() + more, {"PW": "topsecret"})
        is_warned = mode == 0o644 and expected != ""
        assert [expected in warning.text for warning in found] == [True] * is_warned
        assert not any("topsecret" in f"{one.text}{one.excerpt}" for one in found)


def test_a_file_that_every_user_can_change_is_warned_of(open_directory: Path) -> None:
    (open_directory / "sidecar.yaml").touch()
    (open_directory / "sidecar.yaml").chmod(0o666)
    (found,) = warnings_in(open_directory, file())
    assert "every user of this machine can change this file" in found.text


def test_a_closed_directory_or_a_pod_keeps_others_out(tmp_path: Path, open_directory: Path) -> None:
    text = file(store={"url": "redis://:pw@h/0"})
    tmp_path.chmod(0o700)
    assert sentences_in(tmp_path, text) == []
    assert len(warnings_in(open_directory, text)) == 1
    root, _ = compose(text, str)
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert [*warn_of_exposure(root, open_directory / "sidecar.yaml", pod)] == []


# Certificates.

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def certificate(directory: Path, name: str, *spans: tuple[timedelta, timedelta]) -> Path:
    """Write certificates that are valid from and until some time before or after ``NOW``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    pem = b""
    for begins, ends in spans:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(NOW + begins).not_valid_after(NOW + ends)
        pem += builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(pem)
    return path


YEAR = (-DAY, 365 * DAY)
OLD = (-30 * DAY, -DAY)


@pytest.mark.parametrize(
    ("spans", "is_shown", "expected"),
    [
        ([YEAR], True, None),
        ([OLD], True, "the certificate expired on 2026-05-31; renew it"),
        ([(DAY, 2 * DAY)], True, "the certificate is not valid before 2026-06-02 00:00 UTC"),
        ([(-DAY, 13 * DAY)], True, "the certificate expires on 2026-06-14, in 13 days; renew it"),
        ([(-DAY, DAY / 2)], True, "in less than a day"),
        ([(-DAY, 1.5 * DAY)], True, "in 1 day;"),
        ([(-DAY, 14 * DAY)], True, None),
        ([YEAR, OLD], True, "expired on 2026-05-31"),
        ([YEAR, OLD], False, None),
        ([OLD, OLD], False, "expired on 2026-05-31"),
        ([], True, None),
    ],
)
def test_the_dates_of_certificates_are_judged(
    tmp_path: Path,
    spans: list[tuple[timedelta, timedelta]],
    is_shown: bool,
    expected: str | None,
) -> None:
    text = judge_file(certificate(tmp_path, "a", *spans), NOW, is_shown=is_shown)
    assert (text is None) == (expected is None)
    assert expected is None or expected in str(text)


def test_every_certificate_that_the_file_names_is_judged(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        certificate(tmp_path, name, (-9000 * DAY, -8000 * DAY))
    tls = {"certificate": "a.pem", "private_key": "a.key", "client_ca": "b.pem"}
    upstream = {"ca": "d.pem", "certificate": "c.pem", "private_key": "c.key"}
    upstreams = {"a": {"url": "https://a:1", "tls": upstream}}
    found = sentences_in(tmp_path, file(listen={"tls": tls}, upstreams=upstreams))
    assert sorted(one.split(": ")[1] for one in found) == [
        *("listen.tls.certificate", "listen.tls.client_ca"),
        *("upstreams.a.tls.ca", "upstreams.a.tls.certificate"),
    ]


# What is shipped.


def shipped() -> Iterator[tuple[str, str]]:
    yield "config/sidecar.yaml", (ROOT / "config/sidecar.yaml").read_text()
    yield "deploy/compose/sidecar.yaml", (ROOT / "deploy/compose/sidecar.yaml").read_text()
    for path in sorted((ROOT / "deploy/kustomize").rglob("sidecar.yaml")):
        yield str(path.relative_to(ROOT)), path.read_text()
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        text = page.read_text()
        for found in re.finditer(r"^( *)```ya?ml\n(.*?)^\1```", text, re.M | re.S):
            name = f"{page.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}"
            yield name, re.sub(f"^{found[1]}", "", found[2], flags=re.M)


@pytest.mark.parametrize(
    ("name", "text"), [*shipped()], ids=lambda value: str(value).split("\n")[0]
)
def test_no_shipped_example_is_warned_of_but_for_its_public_password(
    tmp_path: Path, name: str, text: str
) -> None:
    """Examples that show a section are judged as part of a small file; what they name is absent."""
    tree = yaml.safe_load(text)
    if not set(tree) <= set(Settings.model_fields):
        pytest.skip("not a configuration")
    for section in MINIMAL:
        if section not in tree:
            text = text + yaml.safe_dump({section: MINIMAL[section]})
    text = re.sub(r"(password_hash: ).*", rf"\1{HASH}", text)
    root, _ = compose(text, lambda value: value)
    found = warnings_of(root, tmp_path / "sidecar.yaml", text)
    assert [one.text for one in found if "password_hash" not in one.text] == []


def test_every_hash_in_the_documentation_is_known_as_an_example() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "config/sidecar.yaml"]
    text = "".join(page.read_text() for page in pages)
    found = re.findall(r"\$argon2id\$v=19\$[\w=,]+\$[\w+/]{16,}\$[\w+/]{30,}", text)
    assert found
    assert set(found) <= EXAMPLE_HASHES
