"""JWTs as an admin meets them: made, told of, rotated, revoked, and a foreign one denied."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from sidecar.core.jws import write_token
from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import ALGORITHMS, generate_key
from sidecar.core.tokens import digest
from sidecar.store.embedded import find_binary
from tests.command_line import Run, run_command
from tests.old_jwts import jwt_of
from tests.ports import free_port
from tests.redis_servers import RedisServer, running_redis

ISSUER = "https://login.example.com/"
FOREIGN_KEY = generate_key("ES256")
MALLORYS_KEY = generate_key("ES256")


class Admin:
    """A configuration with a key and a trusted issuer on a Redis, and the commands run with it."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.redis = redis
        self.config = directory / "sidecar.yaml"
        jwks = json.dumps(export_key_set([load_key("f1", "ES256", FOREIGN_KEY)]))
        (directory / "jwks.json").write_text(jwks)
        foreign = {"issuer": ISSUER, "audience": "listener", "jwks_file": "jwks.json"}
        self.settings: dict[str, Any] = {
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{free_port()}"}},
            "routes": [{"path": "/v1/{id}"}],
            "accounts": {"acme": {}, "bolt": {}},
            "jwt": {"trusted_issuers": [foreign]},
            "store": {"url": redis.unix_url},
        }
        self.use_keys("EdDSA")

    def use_keys(self, *algorithms: str) -> None:
        self.settings["jwt"]["keys"] = [
            {"id": f"k{n}", "algorithm": name, "private_key": generate_key(name)}
            for n, name in enumerate(algorithms)
        ]
        self.write()

    def write(self) -> None:
        self.config.write_text(yaml.safe_dump(self.settings))

    def run(self, *arguments: str, stdin: str = "") -> Run:
        return run_command(*arguments, "--config", str(self.config), stdin=stdin)

    def json(self, *arguments: str, stdin: str = "") -> Any:
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def create(self, name: str = "shop", days: int = 1) -> dict[str, Any]:
        asked = ("--account", "acme", "--name", name, "--days", str(days), "--kind", "jwt")
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


def foreign_jwt(*, key: str = FOREIGN_KEY, **claims: object) -> str:
    usual = {"iss": ISSUER, "aud": "listener", "sub": "acme", "jti": "login-1"}
    end = int(time.time()) + 600
    return write_token({**usual, "exp": end, **claims}, load_key("f1", "ES256", key))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_jwt_is_signed_by_the_first_key_and_says_what_its_record_says(
    admin: Admin, algorithm: str
) -> None:
    admin.use_keys(algorithm)
    made = admin.create()
    text = admin.settings["jwt"]["keys"][0]["private_key"]
    key = load_key("k0", algorithm, text)
    verifying = text.strip() if key.is_secret else jwt.PyJWK(key.publish())
    claims = jwt.decode(made["token"], verifying, [algorithm], audience="listener")
    assert jwt.get_unverified_header(made["token"])["kid"] == "k0"
    assert (claims["iss"], claims["sub"], claims["jti"]) == ("sidecar", "acme", made["id"])
    assert claims["exp"] - claims["iat"] == 86400
    assert admin.redis.command("EXISTS", f"sidecar:token:{digest(made['id'])}") == 1


def test_a_jwt_of_no_days_has_no_end(admin: Admin) -> None:
    made = admin.create(days=0)
    claims = jwt.decode(made["token"], options={"verify_signature": False})
    assert made["expires_at"] is None
    assert "exp" not in claims


def take_over(admin: Admin, token: str, name: str = "old", days: int = 0) -> Run:
    asked = ("--account", "acme", "--name", name, "--days", str(days))
    return admin.run("token", "import", *asked, stdin=token)


def test_a_jwt_of_the_replaced_system_is_imported_and_a_better_way_is_named(admin: Admin) -> None:
    token, end = jwt_of({"sub": "shop-7"}), int(time.time()) + 600
    limited = jwt_of({"exp": end})
    done = take_over(admin, token)
    assert done.returncode == 0, done.stderr
    assert "name it under jwt.trusted_issuers instead" in done.stderr
    told = admin.json("token", "inspect", stdin=token)
    assert (told["kind"], told["account"], told["expires_at"]) == ("imported", "acme", None)
    assert take_over(admin, limited, "limited", 30).returncode == 0
    until = admin.json("token", "inspect", stdin=limited)["expires_at"]
    assert until == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
    assert "already" in take_over(admin, token, "again").stderr
    assert admin.run("token", "revoke", told["id"]).returncode == 0
    gone = admin.run("token", "inspect", stdin=token)
    assert gone.returncode == 1
    assert "It was not imported either, or has expired or been revoked since" in gone.stderr


def test_what_is_claimed_is_not_imported_nor_is_what_anybody_can_make(admin: Admin) -> None:
    for token, why in (
        (foreign_jwt(), f"The configuration has issuer '{ISSUER}'"),
        (admin.create()["token"], "The configuration has issuer 'sidecar'"),
        (jwt_of({}, kid="k0"), "The configuration has key 'k0'"),
        (jwt_of({}, alg="none"), "not signed"),
        (jwt_of({"exp": 1}), "expired"),
    ):
        done = take_over(admin, token)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"this JWT can't be imported: {why}" in done.stderr or why in done.stderr
        assert token.rpartition(".")[2] not in done.stderr


def test_without_a_key_it_is_said_how_to_get_one(admin: Admin) -> None:
    admin.use_keys()
    asked = ("--account", "acme", "--name", "shop", "--days", "1", "--kind", "jwt")
    done = admin.run("token", "create", *asked)
    assert (done.returncode, done.stdout) == (2, "")
    assert "`sidecar key generate` makes one for jwt.keys" in done.stderr


def test_a_jwt_is_told_of_like_any_token_and_is_not_shown(admin: Admin) -> None:
    made = admin.create()
    token = made.pop("token")
    assert made["kind"] == "jwt"
    assert admin.json("token", "list") == [made]
    assert admin.json("token", "inspect", stdin=token) == made
    shown = admin.run("token", "inspect", stdin=token).stdout
    assert made["id"] in shown
    assert token.rpartition(".")[2] not in shown


def test_a_rotated_jwt_has_a_jwt_as_its_successor(admin: Admin) -> None:
    old = admin.create()
    new = admin.json("token", "rotate", old["id"], "--overlap", "1h")
    assert new["kind"] == "jwt"
    both = [admin.json("token", "inspect", stdin=made["token"])["id"] for made in (old, new)]
    assert both == [old["id"], new["id"]]


def test_a_jwt_that_is_revoked_or_rotated_without_overlap_is_said_to_be(admin: Admin) -> None:
    first, second = admin.create("a"), admin.create("b")
    assert admin.run("token", "revoke", first["id"]).returncode == 0
    assert admin.run("token", "rotate", second["id"], "--overlap", "0").returncode == 0
    for made in (first, second):
        done = admin.run("token", "inspect", stdin=made["token"])
        assert (done.returncode, done.stdout) == (1, "")
        assert "issuer 'sidecar' for account 'acme', expires 2" in done.stderr
        assert "its signature is good, but it is revoked" in done.stderr
        assert made["token"].rpartition(".")[2] not in done.stderr


def test_a_jwt_stays_good_when_another_key_signs_and_not_when_its_own_is_dropped(
    admin: Admin,
) -> None:
    made = admin.create()
    (old,) = admin.settings["jwt"]["keys"]
    new = {"id": "new", "algorithm": "ES256", "private_key": generate_key("ES256")}
    admin.settings["jwt"]["keys"] = [new, old]
    admin.write()
    assert admin.json("token", "inspect", stdin=made["token"])["id"] == made["id"]
    assert jwt.get_unverified_header(admin.create("later")["token"])["kid"] == "new"
    admin.settings["jwt"]["keys"] = [new]
    admin.write()
    assert admin.run("token", "inspect", stdin=made["token"]).returncode == 1


def test_a_foreign_jwt_is_told_of_with_its_issuer(admin: Admin) -> None:
    told = admin.json("token", "inspect", stdin=foreign_jwt())
    assert (told["id"], told["account"], told["kind"]) == ("login-1", "acme", "jwt")
    assert told["issuer"] == ISSUER


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"exp": 1}, "expires 1970-01-01T00:00:01Z; it is refused: The token has expired."),
        ({"iss": "mallory\x1b[2J"}, "issuer 'mallory?[2J'"),
        ({"iss": ["x"]}, "issuer (none)"),
        ({"exp": 10**15}, "without an expiry"),
        ({"aud": "another", "sub": "a" * 500}, f"subject '{'a' * 100}…'"),
    ],
)
def test_of_a_jwt_that_is_refused_it_is_told_why_and_what_it_says(
    admin: Admin, claims: dict[str, Any], told: str
) -> None:
    assert_refused(admin, foreign_jwt(**claims), told)


def test_a_good_jwt_of_an_account_that_may_not_pass_is_said_to_be_refused(admin: Admin) -> None:
    admin.settings["accounts"]["bolt"]["disabled"] = True
    admin.write()
    for account, why in (
        ("acmee", "it is refused: the configuration declares no account 'acmee' (did you mean"),
        ("bolt", "it is refused: account bolt is disabled"),
    ):
        done = admin.run("token", "inspect", stdin=foreign_jwt(sub=account))
        assert (done.returncode, account in done.stdout) == (1, True)
        assert why in done.stderr


def test_what_looks_like_a_jwt_and_is_none_is_told_so(admin: Admin) -> None:
    forged = foreign_jwt(key=MALLORYS_KEY)
    assert_refused(admin, forged, "signature is not valid")
    assert_refused(admin, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", "is not signed")
    assert_refused(admin, jwt_of({"sub": "a"}), "is not trusted. It was not imported either")
    assert_refused(admin, "AAAAA.AAAA.AAAAAA", "this looks like a JWT; it is refused")


def assert_refused(admin: Admin, token: str, told: str) -> None:
    done = admin.run("token", "inspect", stdin=token)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert token not in done.stderr


def test_a_foreign_jwt_is_denied_by_its_jti_and_let_in_again_by_revoking_that(
    admin: Admin,
) -> None:
    asked = ("token", "revoke", "--issuer", ISSUER, "--jti", "login-1")
    (denial,) = admin.json(*asked)
    assert admin.json(*asked)[0]["id"] == denial["id"], "to deny twice changes nothing"
    key = digest(f"denied\n{ISSUER}\nlogin-1")
    assert admin.redis.command("EXISTS", f"sidecar:token:{key}") == 1
    done = admin.run("token", "inspect", stdin=foreign_jwt())
    assert (done.returncode, done.stdout) == (1, "")
    assert "its jti is denied" in done.stderr
    assert admin.run("token", "inspect", stdin=foreign_jwt(jti="login-2")).returncode == 0
    assert admin.run("token", "rotate", denial["id"]).returncode == 2
    lifted = admin.run("token", "revoke", denial["id"])
    assert "lifted the denial" in lifted.stdout
    assert admin.run("token", "inspect", stdin=foreign_jwt()).returncode == 0


@pytest.mark.parametrize(("days", "lives"), [("30", 30 * 86400), ("0", -1)])
def test_a_denial_lives_as_long_as_it_is_asked_to(admin: Admin, days: str, lives: int) -> None:
    asked = ("token", "revoke", "--issuer", ISSUER, "--jti", "login-1", "--days", days)
    assert admin.run(*asked).returncode == 0
    (key,) = admin.redis.command("KEYS", "sidecar:token:*")
    assert lives - 60 <= admin.redis.command("TTL", key) <= lives


def test_a_denial_is_nobodys_token(admin: Admin) -> None:
    admin.json("token", "revoke", "--issuer", ISSUER, "--jti", "login-1")
    assert admin.json("token", "list", "--account", "acme") == []
    (listed,) = admin.json("token", "list")
    assert listed["account"] == "@denied"
    assert listed["name"].endswith(f"login-1 of {ISSUER}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--issuer", ISSUER], "--issuer ISS --jti JTI"),
        (["--jti", "x"], "--issuer ISS --jti JTI"),
        (["--issuer", ISSUER, "--jti", "x", "--all"], "--issuer ISS --jti JTI"),
        (["ID", "--issuer", ISSUER, "--jti", "x"], "--issuer ISS --jti JTI"),
        (["--issuer", ISSUER, "--jti", "x", "--account", "acme"], "--issuer ISS --jti JTI"),
        (["--issuer", "https://other.example.com/", "--jti", "x"], ISSUER),
        (["--issuer", "sidecar", "--jti", "x"], "revoke its JWTs by their id"),
        (["--issuer", ISSUER, "--jti", "a b"], "1 to 256 visible ASCII"),
        (["--issuer", ISSUER, "--jti", ""], "1 to 256 visible ASCII"),
    ],
)
def test_a_denial_that_would_deny_nothing_is_refused(
    admin: Admin, options: list[str], told: str
) -> None:
    done = admin.run("token", "revoke", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert admin.json("token", "list") == []


def test_no_denial_is_made_while_an_account_has_its_name(admin: Admin) -> None:
    admin.settings["accounts"]["@denied"] = {}
    admin.write()
    done = admin.run("token", "revoke", "--issuer", ISSUER, "--jti", "x")
    assert done.returncode == 2
    assert "rename the account @denied" in done.stderr


def test_every_change_is_in_the_audit_log_and_no_token_is(admin: Admin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.touch()
    admin.settings["access_log"] = {"path": str(log)}
    admin.write()
    made = admin.create()
    new = admin.json("token", "rotate", made["id"])
    imported = ("token", "import", "--account", "bolt", "--name", "old", "--days", "1")
    old = admin.json(*imported, stdin="of-the-old-system/1234567890")
    admin.json("token", "revoke", old["id"])
    (denial,) = admin.json("token", "revoke", "--issuer", ISSUER, "--jti", "login-1")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["token_id"]) for line in lines] == [
        ("token_created", made["id"]),
        ("token_rotated", new["id"]),
        ("token_imported", old["id"]),
        ("token_revoked", old["id"]),
        ("token_created", denial["id"]),
    ]
    assert {line["actor"] for line in lines} == {"cli"}
    assert made["token"] not in log.read_text()
    assert "1234567890" not in log.read_text()


def test_without_a_log_file_the_audit_line_is_on_standard_error(admin: Admin) -> None:
    asked = ("--account", "acme", "--name", "shop", "--days", "1", "--kind", "jwt")
    done = admin.run("token", "create", *asked)
    assert json.loads(done.stderr.splitlines()[0])["event"] == "token_created"
    assert done.stdout.strip() not in done.stderr
