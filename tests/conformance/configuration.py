"""Group K: files that must not be run with, each a good file with one thing changed."""

# ruff: noqa: E501  (a table reads best with a row a line)

from __future__ import annotations

from dataclasses import dataclass

GOOD = """\
listen: {address: "127.0.0.1:2020"}
upstreams:
  listener:
    url: http://127.0.0.1:8080
routes:
  - path: /v1/dynamic/listener/{id}
accounts:
  acme: {}
identity:
  headers: {X-Account: account}
store:
  url: unix:///nowhere/redis.sock
operations: {address: "127.0.0.1:2022"}
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One change to the good file, where it is found and what the message names."""

    name: str
    old: str
    """What is replaced in the good file; empty: ``new`` is added at its end."""
    new: str
    line: int | None
    """Where it is found; ``None``: anywhere."""
    told: str
    """What the message names."""
    weight: int = 3

    @property
    def text(self) -> str:
        return GOOD.replace(self.old, self.new) if self.old else GOOD + self.new


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

IDENTITY = "headers: {X-Account: account}"

CASES: list[Mistake] = [
    Mistake("K1 an unknown key", "", "colour: red\n", 14, "colour"),
    Mistake("K1 a typo at the top", "upstreams:", "upstraems:", 2, "upstreams"),
    Mistake("K1 a typo within", "    url: http://127.0.0.1:8080", "    url: http://127.0.0.1:8080\n    conect_timeout: 3s", 5, "connect_timeout"),
    Mistake("K1 a typo of a switch that opens", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    pubilc: true", 7, "public", 5),
    Mistake("K1 a duplicate key", "  acme: {}", "  acme: {}\n  acme: {disabled: true}", 9, "acme", 5),
    Mistake("K1 a duplicate section", "", "accounts:\n  globex: {}\n", 14, "accounts", 5),
    Mistake("K1 text where a switch belongs", "  acme: {}", '  acme: {disabled: "no"}', 8, "disabled", 5),
    Mistake("K1 text where a list belongs", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    accounts: acme", 7, "accounts", 5),
    Mistake("K1 a number where an address belongs", 'listen: {address: "127.0.0.1:2020"}', "listen: {address: 2020}", 1, "address"),
    Mistake("K1 a list where a mapping belongs", "  acme: {}", "  - acme", 8, "accounts"),
    Mistake("K1 an account that is not declared", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    accounts: [amce]", 7, "acme", 5),
    Mistake("K1 an upstream that is not declared", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    upstream: listner", 7, "listener"),
    Mistake("K1 an unknown form of credential", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    credentials: [baerer]", 7, "bearer", 5),
    Mistake("K1 an empty list of accounts", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    accounts: []", 7, "accounts", 5),
    Mistake("K1 an empty list of credentials", "  - path: /v1/dynamic/listener/{id}", "  - path: /v1/dynamic/listener/{id}\n    credentials: []", 7, "credentials", 5),
    Mistake("K1 a password instead of its hash", "  acme: {}", "  acme: {password_hash: swordfish}", 8, "password_hash", 5),
    Mistake("K1 a pattern with /** in the middle", "/v1/dynamic/listener/{id}", "/v1/**/listener", 6, "/v1/**/listener", 5),
    Mistake("K1 a pattern with dot segments", "/v1/dynamic/listener/{id}", "/v1/../listener", 6, "..", 5),
    Mistake("K1 a duration without a unit", "    url: http://127.0.0.1:8080", "    url: http://127.0.0.1:8080\n    connect_timeout: 3", 5, "connect_timeout"),
    Mistake("K1 a network that is none", "", "trusted_proxies: [everyone]\n", 14, "everyone", 5),
    Mistake("K1 an environment variable that is not set", "http://127.0.0.1:8080", "${NOT_SET_ANYWHERE}", 4, "NOT_SET_ANYWHERE"),
    Mistake("K1 a file that is not there", "http://127.0.0.1:8080", "${file:not/there}", 4, "not/there"),
    Mistake("K1 not YAML", "  acme: {}", "  acme: {", None, ""),
    Mistake("K1 a tab", "  acme: {}", "\tacme: {}", 8, ""),
    Mistake("K1 nothing at all", GOOD, "", None, ""),
    Mistake("K2 a tag that makes an object", "  acme: {}", "  acme: !!python/object/apply:os.system [id]", 8, "", 5),
    Mistake("K2 a tag of ours", "  acme: {}", "  acme: !account {}", 8, ""),
    Mistake("K2 a standard tag", "  acme: {}", "  acme: !!map {}", 8, ""),
    Mistake("K2 an anchor bomb", "", BOMB, None, ""),
    Mistake("K2 an anchor that holds itself", "  acme: {}", "  acme: &a {paths: [*a]}", 8, ""),
    Mistake("K2 a merge key", "  acme: {}", "  acme: &a {disabled: true}\n  globex: {<<: *a}", None, ""),
    Mistake("K2 two documents", "", "---\naccounts: {}\n", None, ""),
    Mistake("K2 nested a thousand deep", "", "x: " + "[" * 1000 + "]" * 1000 + "\n", None, ""),
    *(
        Mistake(f"K3 the identity header {header}", IDENTITY, f"headers: {{{header}: account}}", 10, header, 5)
        for header in (
            "Authorization", "access_token", "Access-Token", "jwt_token", "Proxy-Authorization", "Cookie",
            "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection",
            "Host", "Content-Length", "Expect", "X-Forwarded-For", "Via", "X-Request-Id", '"X Account"', '"X-Account:"', '"X-Ac\\r\\nX"', '""',
        )
    ),
    Mistake("K3 two identity headers that fold to one", IDENTITY, "headers: {X-Account: account, X_Account: token_id}", 10, "X_Account", 5),
    Mistake("K3 an unknown attribute", IDENTITY, "headers: {X-Account: accuont}", 10, "account", 5),
    Mistake("K3 a credential header that is a framing header", "", "credentials: {headers: [Content-Length]}\n", 14, "Content-Length", 5),
    Mistake("K3 a credential header that is the identity header", "", "credentials: {headers: [X-Account]}\n", None, "X-Account", 5),
    Mistake("K5 a short HMAC key", "", 'jwt: {keys: [{id: k1, algorithm: HS256, private_key: "short"}]}\n', 14, "k1", 5),
    Mistake("K5 an algorithm that is none", "", 'jwt: {keys: [{id: k1, algorithm: none, private_key: ""}]}\n', 14, "none", 5),
    Mistake("K5 a key of another family", "", 'jwt: {keys: [{id: k1, algorithm: EdDSA, private_key: "${KEY_RSA_2048}"}]}\n', 14, "k1", 5),
    Mistake("K5 an RSA key of 1024 bits", "", 'jwt: {keys: [{id: k1, algorithm: RS256, private_key: "${KEY_RSA_1024}"}]}\n', 14, "k1", 5),
    Mistake("K5 a public key as an HMAC key", "", 'jwt: {keys: [{id: k1, algorithm: HS256, private_key: "${KEY_PUBLIC}"}]}\n', 14, "k1", 5),
    Mistake("K5 two keys with one id", "", 'jwt: {keys: [{id: k1, algorithm: EdDSA, private_key: "${KEY_ED}"}, {id: k1, algorithm: EdDSA, private_key: "${KEY_ED}"}]}\n', 14, "id", 5),
    Mistake("K5 mixed families for one issuer", "", "jwt: {trusted_issuers: [{issuer: https://a.example/, audience: listener, jwks_url: https://a.example/jwks.json, algorithms: [RS256, HS256], account_claim: sub}]}\n", 14, "HS256", 5),
]  # fmt: skip
