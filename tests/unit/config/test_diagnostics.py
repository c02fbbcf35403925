# ruff: noqa: E501  a case of a table is one line, the better to compare
"""Each mistake in a file is reported in one line: its position, what is wrong, what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.config.load import load
from sidecar.config.settings import Settings
from sidecar.core.errors import ConfigurationError

MINIMAL = """\
upstreams:
  listener: {url: "http://127.0.0.1:8080"}
routes:
  - path: /v1/dynamic/listener/{id}
accounts:
  acme: {}
"""
HASH = "$argon2id$v=19$m=19456,t=2,p=1$rL6147Su2yMYjtk0QQ13pQ$qAwZlJ3a3G/HH4kYv0VW7mRxOIOjgKYqZI8CbUfP0wk"
ENVIRON = {
    "PORT": "70000",
    "SECRET": "hunter2",
    "WORKERS": "2",
    "ON": "true",
    "TEN": "10",
    "EMPTY": "",
}


def settings_of(directory: Path, text: str | bytes) -> Settings:
    path = directory / "sidecar.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, ENVIRON)


def problems_of(directory: Path, text: str | bytes) -> list[str]:
    """Return the problems of a file, less its own name: ``line:column: text``."""
    with pytest.raises(ConfigurationError) as caught:
        settings_of(directory, text)
    return [problem.removeprefix(f"{directory}/sidecar.yaml:") for problem in caught.value.problems]


UNREADABLE: list[tuple[str | bytes, str]] = [
    ("", "1:1: the file is empty"),
    ("# nothing\n", "1:1: the file is empty"),
    ("---\n", "1:1: the file is empty"),
    ("- a\n", "1:1: the file is not a mapping"),
    ("listen\n", "1:1: the file is not a mapping"),
    ("a: 1\n---\nb: 2\n", "2:1: a second document begins here"),
    ("a: [1, 2\nb: 3\n", "2:2: this is not YAML"),
    ("a:\n\tb: 1\n", "2:1: a tab can't begin a token"),
    ("a: 'x\n", "2:1: this is not YAML"),
    ("a: b: c\n", "1:5: this is not YAML"),
    ("a: {b: ${X}}\n", "1:9: this is not YAML"),
    ("a: \x00\n", "1:4: YAML does not allow the character '\\x00'"),
    ("ä: 1\nöö \x1b\n", "2:4: YAML does not allow the character '\\x1b'"),
    ("ä: 1\nö: ".encode() + b"\xff\n", "2:4: this is not UTF-8"),
    ("a: 1\n".encode("utf-16"), "1:1: this is not UTF-8"),
    ("a: " + "[" * 200 + "]" * 200, "1:36: nested more than 32 deep"),
    ("- " * 5000, "1:67: nested more than 32 deep"),
    ("# " + "x" * 1024 * 1024, "1:1: the file is larger than 1 MiB"),
]


@pytest.mark.parametrize(("text", "expected"), UNREADABLE, ids=lambda value: repr(value)[:40])
def test_what_can_not_be_read_is_one_problem(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith(expected)


def test_endless_nesting_is_reported_even_if_the_parser_stops_first(tmp_path: Path) -> None:
    """PyYAML has a bound of its own from 6.0.4 on, and names another place."""
    (problem,) = problems_of(tmp_path, "a: " + "[" * 100_000)
    assert problem.endswith("nested more than 32 deep; make it flatter")


APPENDED: list[tuple[str, str]] = [
    # unknown, missing, doubled
    ("lissten: {}", "7:1: lissten: there is no such key; did you mean listen?"),
    ("zzz: 1", "7:1: zzz: there is no such key; the keys here are listen, upstreams"),
    ("limits: {header-bytes: 1}", "7:10: limits.header-bytes: there is no such key; did you mean header_b"),
    ("listen: {}\nlisten: {}", "8:1: the key 'listen' is already in line 7"),
    # no value
    ("listen:", "7:8: listen: there is no value"),
    ("listen: {tls: }", "7:15: listen.tls: there is no value"),
    ("portal: null", "7:9: portal: there is no value"),
    ("tokens: {prefix: ~}", "7:18: tokens.prefix: there is no value"),
    # wrong kinds
    ("listen: 3", "7:9: listen: expected a mapping of `key: value`, found a whole number"),
    ("listen: [a]", "7:9: listen: expected a mapping of `key: value`, found a list"),
    ("tokens: {prefix: 12}", "7:18: tokens.prefix: expected text, found a whole number; put it in quotes"),
    ("tokens: {prefix: true}", "7:18: tokens.prefix: expected text, found true or false"),
    ("tokens: {prefix: [a]}", "7:18: tokens.prefix: expected text, found a list"),
    ("throttle: {failures: many}", "7:22: throttle.failures: expected a whole number, found text"),
    ('throttle: {failures: "10"}', "7:22: throttle.failures: expected a whole number, found text"),
    ("throttle: {failures: 1.5}", "7:22: throttle.failures: expected a whole number, found a number"),
    ("throttle: {failures: true}", "7:22: throttle.failures: expected a whole number, found true"),
    ("throttle: {failures: -1}", "7:22: throttle.failures: -1 is out of range; write 0 or more"),
    ("trusted_proxies: 10.0.0.0/8", "7:18: trusted_proxies: expected a list, found text; write it in br"),
    ("portal: true", "7:9: portal: expected a mapping"),
    ("workers: many", "7:10: workers: 'many' is not a number of workers"),
    ("workers: 0", "7:10: workers: 0 is not a number of workers"),
    # what YAML 1.1 made of things
    ("access_log: {enabled: yes}", "7:23: access_log.enabled: expected true or false, found text"),
    ("access_log: {enabled: on}", "7:23: access_log.enabled: expected true or false, found text"),
    ("throttle: {failures: 010}", "7:22: throttle.failures: expected a whole number, found text; write it in dig"),
    ("throttle: {failures: 0x10}", "7:22: throttle.failures: expected a whole number"),
    ("throttle: {failures: 1_000}", "7:22: throttle.failures: expected a whole number"),
    (f"throttle: {{failures: {'9' * 5000}}}", "7:22: throttle.failures: expected a whole number"),
    ("listen: {address: ['127.0.0.1:1', nope]}", "7:35: listen.address[1]: 'nope' is not an address"),
    ("listen: {address: ['127.0.0.1:1', '127.0.0.1:1']}", "7:35: listen.address[1]: listen.address[0] is 127.0.0.1:1 too; choose another port"),
    ("listen: {address: ['unix:/a', 'unix:/a']}", "7:31: listen.address[1]: listen.address[0] is unix:/a too; choose another path"),
    ("listen: {address: ['127.0.0.1:1', '127.0.0.1:2022']}", "7:35: listen.address[1]: operations.address is 127.0.0.1:2022 too"),
    ("listen: {address: []}", "7:19: listen.address: this is empty; add an entry"),
    ("listen: {address: [['127.0.0.1:1']]}", "7:20: listen.address[0]: ['127.0.0.1:1'] is not an address"),
    ("listen: {address: {a: b}}", "7:19: listen.address: {'a': 'b'} is not an address"),
    ("listen: {mode: 660}", "7:16: listen.mode: this value is not the mode of a socket; write three octal"),
    ('listen: {mode: "0888"}', "7:16: listen.mode: '0888' is not the mode of a socket"),
    ('listen: {mode: "4660"}', "7:16: listen.mode: '4660' is not the mode of a socket"),
    ('listen: {mode: "rw-rw----"}', "7:16: listen.mode: 'rw-rw----' is not the mode"),
    ("listen: {group: no-such-group}", "7:17: listen.group: 'no-such-group' is not a group of this system; name one"),
    ("trusted_proxies: [unix:/run/a.sock]", "7:19: trusted_proxies[0]: 'unix:/run/a.sock' is not a network"),
    ("listen: {health_path: healthz}", "7:23: listen.health_path: 'healthz' is not a plain path; write it like"),
    ("listen: {health_path: /}", "7:23: listen.health_path: '/' is not a plain path"),
    ("listen: {health_path: /a/../b}", "7:23: listen.health_path: '/a/../b' is not a plain path"),
    ("listen: {health_path: //a}", "7:23: listen.health_path: '//a' is not a plain path"),
    ("listen: {health_path: '/a?b'}", "7:23: listen.health_path: '/a?b' is not a plain path"),
    ("listen: {health_path: '/{a}'}", "7:23: listen.health_path: '/{a}' is not a plain path"),
    ("listen: {proxy_protocol: v2}", "7:26: listen.proxy_protocol: expected true or false, found text"),
    ("listen: {proxy_protocol: true}", "7:26: listen.proxy_protocol: nobody may send a PROXY header, so all"),
    ("listen: {proxy_protocol: true}\ntrusted_proxies: []", "7:26: listen.proxy_protocol: nobody may send"),
    ("listen: {address: 12:30:45}", "7:19: listen.address: '12:30:45' is not an address"),
    ("? [a]\n: b", "7:3: a key must be plain text"),
    ("on: 1", "7:1: on: there is no such key"),
    # tags, anchors, aliases
    ("tokens: !!python/object/apply:os.system [id]", "7:9: 'tag:yaml.org,2002:python/object/apply:os.syste"),
    ("tokens: !x {}", "7:9: '!x': tags are not supported"),
    ('tokens: {prefix: !!str "a"}', "7:18: 'tag:yaml.org,2002:str': tags are not supported"),
    ("tokens: &a {}", "7:9: '&a': anchors are not supported"),
    ("tokens: *a", "7:9: '*a': aliases are not supported; write the value out"),
    ("tokens: {<<: *a}", "7:10: '<<': merge keys are not supported"),
    # units
    ("drain: {timeout: 30}", "7:18: drain.timeout: 30 is a duration without a unit; write 30s"),
    ("drain: {timeout: soon}", "7:18: drain.timeout: 'soon' is not a duration; write it like"),
    ("throttle: {ban: 0s}", "7:17: throttle.ban: this value is 0; write a duration above 0"),
    ("limits: {header_bytes: 16KB}", "7:24: limits.header_bytes: '16KB' is not a size"),
    ("limits: {header_bytes: 0}", "7:24: limits.header_bytes: this value is 0; write a size above 0"),
    ("trusted_proxies: [10.0.0.1/8]", "7:19: trusted_proxies[0]: '10.0.0.1/8' is not a network; its bits aft"),
    ("trusted_proxies: [10.0.0.0/33]", "7:19: trusted_proxies[0]: '10.0.0.0/33' is not a network; write"),
    # substitution
    ("workers: ${NOPE}", "7:10: ${NOPE} is not set; set the environment variable NOPE, or write ${NOPE:-default}"),
    ("workers: ${SECRET}", "7:10: workers: the value of ${SECRET} is not a number of workers"),
    ("drain: {timeout: '${SECRET}'}", "7:18: drain.timeout: the value of ${SECRET} is not a duration"),
    ("listen: {address: '0.0.0.0:${PORT}'}", "7:19: listen.address: the value of ${PORT} has a port above"),
    ("throttle: {failures: '${SECRET}'}", "7:22: throttle.failures: the value of ${SECRET} is not a whole"),
    ("access_log: {enabled: '${SECRET}'}", "7:23: access_log.enabled: the value of ${SECRET} is not true or"),
    ("listen: '${SECRET}'", "7:9: listen: the value of ${SECRET} is not a mapping"),
    # secrets
    ("store: {url: 'rediss//:hunter2@h'}", "7:14: store.url: this value is not the URL of a store; write emb"),
    ("store: {url: 'redis://:hunter2@[bad'}", "7:14: store.url: this value has a host or port that can't be read"),
    ("store: {url: 'redis://:hunter2@:6379'}", "7:14: store.url: this value has a host or port that can't be read"),
    ("store: {url: 'redis://:hunter2@h:x'}", "7:14: store.url: this value has a host or port that can't be read"),
    ("store: {url: 'redis://:hunter2@h:65536'}", "7:14: store.url: this value has a host or port that can't be read"),
    ("store: {url: 'redis+cluster://h1:1,:2'}", "7:14: store.url: this value has a host or port that can't be read"),
    ("store: {url: 12}", "7:14: store.url: expected text"),
    # headers
    ("identity: {headers: {}}", "7:21: identity.headers: this is empty; add an entry"),
    ("identity: {headers: {Host: account}}", "7:22: identity.headers: 'Host' can't carry an identity"),
    ("identity: {headers: {authorization: account}}", "7:22: identity.headers: 'authorization' can't carry"),
    ("identity: {headers: {Cookie: account}}", "7:22: identity.headers: 'Cookie' can't carry"),
    ("identity: {headers: {Transfer_Encoding: account}}", "7:22: identity.headers: 'Transfer_Encoding' can't"),
    ("identity: {headers: {Connection: account}}", "7:22: identity.headers: 'Connection' can't carry"),
    ("identity: {headers: {X-Forwarded-User: account}}", "7:22: identity.headers: 'X-Forwarded-User' can't"),
    ("identity: {headers: {'X Account': account}}", "7:22: identity.headers: 'X Account' is not a header name"),
    ("identity: {headers: {'': account}}", "7:22: identity.headers: '' is not a header name"),
    ("identity: {headers: {X-A: acount}}", "7:27: identity.headers.X-A: 'acount' is not a known value; did you mean acc"),
    ("identity: {headers: {X-A: 1}}", "7:27: identity.headers.X-A: expected one of account, method"),
    ("identity: {headers: {X-A: account, x_a: method}}", "7:36: identity.headers.x_a: an upstream may confuse this with X-A in identity.headers;"),
    ("identity: {headers: {Access-Token: account}}", "7:22: identity.headers.Access-Token: an upstream may confuse this with access_token in cred"),
    ("credentials: {headers: [Host]}", "7:25: credentials.headers[0]: 'Host' can't carry a credential"),
    ("credentials: {headers: [X-Account]}\nidentity: {headers: {x.account: account}}", "8:22: identity.headers.x"),
    ("credentials: {query: ['a&b']}", "7:23: credentials.query[0]: 'a&b' is not a parameter name"),
    ('credentials: {realm: "a\\nb"}', "7:22: credentials.realm: 'a\\nb' is not plain text"),
    # references and contradictions
    ("identity: {assertion: {}}", "7:12: identity.assertion: an assertion needs a key to sign it"),
    ("portal: {address: 0.0.0.0:2020}", "7:19: portal.address: listen.address is 0.0.0.0:2020 too"),
    ("portal: {address: 127.0.0.1:2022}\noperations: {}", "7:19: portal.address: operations.address is 127.0.0.1:2022 too"),
    ("tokens: {prefix: sct-}", "7:18: tokens.prefix: 'sct-' is not a token prefix"),
    ("tokens: {prefix: abcdefghijklmnop}", "7:18: tokens.prefix: 'abcdefghijklmnop' is not a token prefix"),
    # JWT
    ("jwt: {trusted_issuers: [{issuer: a, audience: b}]}", "7:25: jwt.trusted_issuers[0]: this issuer has no source"),
    ("jwt: {trusted_issuers: [{issuer: sidecar, audience: b, jwks_url: 'https://x'}]}", "7:34: jwt.trusted_issuers[0].issuer: jwt.issuer has the same value"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', algorithms: [HS256]}]}", "7:85: jwt.trusted_issuers[0].algorithms: HS256"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', algorithms: [none]}]}", "7:86: jwt.trusted_issuers[0].algorithms[0]: 'none' is not a known value"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://h:99999/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://h:x/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://[::1/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://a..b/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://h:0/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://10.0.0.256/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://h,i/x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value has a host, port or"),
    ("tracing: {endpoint: 'http://h:99999/v1'}", "7:21: tracing.endpoint: this value has a host, port or"),
    ("tracing: {endpoint: 'http://[::1/v1'}", "7:21: tracing.endpoint: this value has a host, port or"),
    ("tracing: {endpoint: 'http://:80/v1'}", "7:21: tracing.endpoint: this value has a host, port or"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'ftp://u:hunter2@x'}]}", "7:60: jwt.trusted_issuers[0].jwks_url: this value is not a URL"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', account_claim: []}]}", "7:88: jwt.trusted_issuers[0].account_claim: this value is not a claim; write its name, or a path of up to 8"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', account_claim: [a, 1.5]}]}", "7:88: jwt.trusted_issuers[0].account_claim: this value is not a claim"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', account_claim: [a, -1]}]}", "7:88: jwt.trusted_issuers[0].account_claim: this value is not a claim"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', account_claim: {a: b}}]}", "7:88: jwt.trusted_issuers[0].account_claim: this value is not a claim"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', account_claim: ''}]}", "7:88: jwt.trusted_issuers[0].account_claim: '' is not a claim"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', account_claim: 1}]}", "7:88: jwt.trusted_issuers[0].account_claim: this value is not a claim"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {}}]}", "7:83: jwt.trusted_issuers[0].accounts: this is empty; add an entry, or remove the key"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {'auth0|1': acmee}}]}", "7:95: jwt.trusted_issuers[0].accounts.'auth0|1': there is no account 'acmee'; did you mean acme?"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {'s p:x': nobody}}]}", "7:93: jwt.trusted_issuers[0].accounts.'s p:x': there is no account 'nobody'; declare it under accounts"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {'a|1 ': acme}}]}", "7:84: jwt.trusted_issuers[0].accounts: 'a|1 ' is not what a claim holds"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {x: [acme]}}]}", "7:87: jwt.trusted_issuers[0].accounts.x: expected text, found a list"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {x: a b}}]}", "7:87: jwt.trusted_issuers[0].accounts.x: there is no account 'a b'"),
    ("  bolt: {}\njwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {Ab: acme, aB: bolt}}]}", "8:94: jwt.trusted_issuers[0].accounts.aB: 'Ab' is another account, and differs in case alone; keep one"),
    ("jwt: {trusted_issuers: [{issuer: a, audience: b, jwks_url: 'https://x', accounts: {'a|1': acme, 'a|1': acme}}]}", "7:97: the key 'a|1' is already in line 7; keep one of the two"),
    ("jwt: {keys: [{id: k, algorithm: HS256, private_key: hunter2}]}", "7:53: jwt.keys[0].private_key: key 'k': the secret is shorter"),
    ("jwt: {keys: [{id: k, private_key: hunter2}]}", "7:35: jwt.keys[0].private_key: key 'k':"),
    ("jwt: {keys: [{id: k, private_key: '${file:missing.pem}'}]}", "7:35: ${file:missing.pem} names a file that does not exist"),
    # files
    ("access_log: {path: missing/access.log}", "7:20: access_log.path: there is no such directory"),
    ("access_log: {path: .}", "7:20: access_log.path: this is a directory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), APPENDED, ids=lambda value: repr(value)[:60])
def test_a_mistake_is_reported_with_its_position(tmp_path: Path, text: str, expected: str) -> None:
    problems = problems_of(tmp_path, MINIMAL + text + "\n")
    assert problems[0].startswith(expected)
    assert "hunter2" not in "\n".join(problems)
    assert len(problems) == 1


WHOLE: list[tuple[str, list[str]]] = [
    ("listen: {}\n", ["1:1: routes: this key is missing", "1:1: upstreams: this key is missing"]),
    ("upstreams: {}\nroutes: []\n", ["1:12: upstreams: this is empty", "2:9: routes: this is empty"]),
    *(
        (
            MINIMAL.replace('http://127.0.0.1:8080"}', f'https://h", tls: {{server_name: "{name}"}}}}'),
            [f"2:51: upstreams.listener.tls.server_name: {name!r} is not the name of a host; write"],
        )
        for name in ("https://x", "x:443", "[::1]", "a b", "x.", "h\u00f6.st", "10.0.0.256", "a..b")
    ),
    (
        MINIMAL + "listen: {tls: {private_key: no.key}}\n",
        [
            "7:10: listen.tls.certificate: this key is missing; add it",
            "7:29: listen.tls.private_key: there is no such file; create it, or correct the path",
        ],
    ),
    (
        MINIMAL.replace("path: /v1", "pth: /v1"),
        ["4:5: routes[0].pth: there is no such key; did you mean path?"],
    ),
    (MINIMAL.replace("/v1/dyn", "v1/dyn"), ["4:11: routes[0].path: 'v1/dynamic/listener/{id}' is not a path"]),
    (MINIMAL + "  a b: {}\n", ["7:3: accounts: 'a b' is not an account name"]),
    (MINIMAL + "  12: []\n", ["7:7: accounts.12: expected a mapping"]),
    (
        MINIMAL.replace("acme: {}", f"acme: {{password_hash: {HASH[1:]!r}}}"),
        ["6:25: accounts.acme.password_hash: this value is of no kind that is supported"],
    ),
    (
        MINIMAL.replace("acme: {}", f"acme: {{password_hash: {HASH.replace('19456', '9999999')!r}}}"),
        ["6:25: accounts.acme.password_hash: this value takes more than 256 MiB to verify"],
    ),
    (
        MINIMAL.replace("acme: {}", f"acme: {{password_hash: {HASH.replace('t=2', 't=99')!r}}}"),
        ["6:25: accounts.acme.password_hash: this value takes more than 2 seconds to verify"],
    ),
    (
        MINIMAL.replace("acme: {}", f"acme: {{password_hash: {HASH}}}"),
        [
            "6:25: accounts.acme.password_hash: this value is cut off at a comma; put the hash in quotes",
            "6:48: accounts.acme.'t=2': there is no such key",
            "6:52: accounts.acme.'...': there is no such key",
        ],
    ),
    (MINIMAL.replace("acme: {}", "acme: hunter2"), ["6:9: accounts.acme: expected a mapping"]),
    (MINIMAL.replace("acme: {}", "acme: {paths: []}"), ["6:17: accounts.acme.paths: this is empty"]),
    (
        MINIMAL.replace("{id}\n", "{id}\n    upstream: listner\n    accounts: [acne, zzz]\n"),
        [
            "5:15: routes[0].upstream: there is no upstream 'listner'; did you mean listener?",
            "6:16: routes[0].accounts[0]: there is no account 'acne'; did you mean acme?",
            "6:22: routes[0].accounts[1]: there is no account 'zzz'; declare it under accounts",
        ],
    ),
    (
        MINIMAL.replace("routes:", '  other: {url: "unix:/x", tls: {verify: true}}\nroutes:'),
        [
            "3:27: upstreams.other.tls: the url of this upstream is not https://",
            "5:5: routes[0]: with 2 upstreams, a route must name one; set upstream to one of listener, other",
        ],
    ),
    (
        MINIMAL.replace('"http://127.0.0.1:8080"', '"https://x", tls: {certificate: c.pem}'),
        [
            "2:38: upstreams.listener.tls.certificate: private_key is missing",
            "2:51: upstreams.listener.tls.certificate: there is no such file",
        ],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    public: true\n    accounts: [acme]\n    methods: [get]\n"),
        [
            "6:5: routes[0].accounts: a public route lets everyone pass",
            "7:15: routes[0].methods[0]: 'get' is not a method; write it in capitals",
        ],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    credentials: [bearerr, basic]\n"),
        ["5:19: routes[0].credentials[0]: 'bearerr' is not a known value; did you mean bearer?"],
    ),
    *(
        (
            MINIMAL.replace("{id}\n", f"{{id}}\n    cors: {{origins: ['{origin}']}}\n"),
            [f"5:22: routes[0].cors.origins[0]: '{origin}' is not an origin; {advice}"],
        )
        for origin, advice in (
            ("https://a.b/", "an origin ends with its host or port: did you mean https://a.b?"),
            ("https://A.b:1/x?y", "an origin ends with its host or port: did you mean https://A.b:1?"),
            ("shop.example", "write it like https://shop.example"),
            ("https://", "write it like"),
            ("https://*.*.b", "write it like"),
            ("https://a.*", "write it like"),
            ("https://ä.b", "write it like"),
            ("NULL", "write it like"),
        )
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    cors: {origins: [https://a.b, '*'], credentials: true}\n"),
        ["5:35: routes[0].cors.origins[1]: browsers refuse * together with credentials; name the"],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    cors: {headers: ['*'], preflight: no, methods: [get]}\n"),
        [
            "5:5: routes[0].cors.origins: this key is missing; add it",
            "5:22: routes[0].cors.headers[0]: '*' is not the name of a header",
            "5:39: routes[0].cors.preflight:",
            "5:53: routes[0].cors.methods[0]: 'get' is not a method",
        ],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    credentials: optinal\n"),
        ["5:18: routes[0].credentials: 'optinal' is no rule for credentials; write optional, or"],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    credentials: {query: [a, 'a&b'], bearr: true, basic: no}\n"),
        [
            "5:30: routes[0].credentials.query[1]: 'a&b' is not a parameter name",
            "5:38: routes[0].credentials.bearr: there is no such key; did you mean bearer?",
            "5:58: routes[0].credentials.basic: expected true or false, found text",
        ],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    credentials: {query: token}\n"),
        ["5:26: routes[0].credentials.query: expected true or false, found text"],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    credentials: optional\n    accounts: [acme]\n"),
        ["6:5: routes[0].accounts: optional credentials let everyone pass; remove one of the two"],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    credentials: {optional: true}\n    accounts: [acme]\n"),
        ["6:5: routes[0].accounts: optional credentials let everyone pass; remove one of the two"],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    bad_credentials: ignore\n    public: true\n"),
        ["5:5: routes[0].bad_credentials: this needs `credentials: optional`; add it, or remove"],
    ),
    (
        MINIMAL.replace("{id}\n", "{id}\n    bad_credentials: ignor\n    credentials: optional\n"),
        ["5:22: routes[0].bad_credentials: 'ignor' is not a known value; did you mean ignore?"],
    ),
    (
        MINIMAL.replace("http://127.0.0.1:8080", "http://u:hunter2@127.0.0.1"),
        ["2:19: upstreams.listener.url: this value is a URL with a user or password"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WHOLE, ids=lambda value: repr(value)[:40])
def test_the_mistakes_of_a_file_are_reported_in_order(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    problems = problems_of(tmp_path, text)
    assert [p[: len(e)] for p, e in zip(problems, expected, strict=True)] == expected
    assert "hunter2" not in "\n".join(problems)


TEN_MISTAKES = """\
listen:
  adress: 0.0.0.0:2020
upstreams:
  listener:
    url: http://127.0.0.1:8080/base
    connect_timeout: 3
routes:
  - path: /v1/dynamic/listener/{id}
    upstream: listner
    methods: get
  - path: /status
    public: yes
accounts:
  acme:
    password_hash: hunter2
limits:
  header_bytes: 32KB
workers: ${NO_SUCH_VARIABLE}
limits: {}
"""


def test_ten_mistakes_are_ten_lines(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, TEN_MISTAKES)
    places = [":".join(problem.split(":")[:2]) for problem in problems]
    assert places == [
        "2:3", "5:10", "6:22", "9:15", "10:14", "12:13", "15:20", "17:17", "18:10", "19:1",
    ]  # fmt: skip
    assert "hunter2" not in "\n".join(problems)


ACCEPTED: list[tuple[str, str, object]] = [
    ("workers: ${WORKERS}", "workers", 2),
    ("workers: ${NOPE:-auto}", "workers", "auto"),
    ("throttle: {failures: '${TEN}'}", "throttle.failures", 10),
    ("access_log: {enabled: '${ON}'}", "access_log.enabled", True),
    ("access_log: {enabled: True}", "access_log.enabled", True),
    ("credentials: {realm: yes}", "credentials.realm", "yes"),
    ("credentials: {realm: 12:30}", "credentials.realm", "12:30"),
    ("credentials: {realm: 2024-01-01}", "credentials.realm", "2024-01-01"),
    ("credentials: {realm: '$${HOME}'}", "credentials.realm", "${HOME}"),
    ("tokens: {prefix: '${EMPTY}'}", "tokens.prefix", ""),
    ("drain: {delay: 0}", "drain.delay", 0.0),
    ("drain: {delay: '0'}", "drain.delay", 0.0),
    ("limits: {body_bytes: 1GiB}", "limits.body_bytes", 1024**3),
    ("portal: false", "portal", None),
    ("operations: false", "operations", None),
    ("portal: {}\noperations: {address: '127.0.0.1:0'}", "operations.address.port", 0),
    ("jwt: {keys: []}", "jwt.keys", ()),
]


@pytest.mark.parametrize(("text", "key", "value"), ACCEPTED, ids=lambda value: repr(value)[:40])
def test_what_is_plain_is_read_as_it_looks(
    tmp_path: Path, text: str, key: str, value: object
) -> None:
    found: object = settings_of(tmp_path, MINIMAL + text + "\n")
    for name in key.split("."):
        found = getattr(found, name)
    assert found == value


def test_a_byte_order_mark_and_carriage_returns_are_no_problem(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode()
    assert settings_of(tmp_path, text) == settings_of(tmp_path, MINIMAL)


def test_relative_paths_start_at_the_directory_of_the_file(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, MINIMAL + "access_log: {path: access.log}\n")
    assert settings.access_log.path == str(tmp_path / "access.log")


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b", "file/sidecar.yaml"])
def test_a_file_that_can_not_be_opened_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / name, {})
    assert re.search(
        r":1:1: (the file can't be read|there is no such file|this is a directory)",
        str(caught.value),
    )


def test_settings_never_change_and_never_show_a_secret(tmp_path: Path) -> None:
    secret_url = "store: {url: 'redis://:hunter2@db'}\n"
    text = MINIMAL.replace("acme: {}", f"acme: {{password_hash: {HASH!r}}}") + secret_url
    settings = settings_of(tmp_path, text)
    assert settings.accounts["acme"].password_hash == HASH
    assert HASH not in repr(settings)
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, "workers", 4)  # noqa: B010  mypy knows that it is frozen
    with pytest.raises(TypeError):
        settings.accounts["other"] = settings.accounts["acme"]  # type: ignore[index]
