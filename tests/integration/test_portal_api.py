"""The HTTP API of tokens, as ``curl -u`` meets it."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from sidecar.core.patterns import compile_pattern
from sidecar.core.problems import PROBLEM_TYPES
from sidecar.portal.api import OPERATIONS
from sidecar.portal.openapi import describe
from sidecar.portal.problem_responses import API_CODES
from tests.browser.portal_stage import PASSWORD, ApiClient, PortalStage, running_portal

ROOT = Path(__file__).resolve().parent.parent.parent
MEMBERS = {"id", "account", "name", "kind", "created_at", "expires_at", "last_used_at", "paths"}


@pytest.fixture
async def stage() -> AsyncIterator[PortalStage]:
    async with running_portal() as running:
        yield running


@pytest.fixture
async def session(stage: PortalStage) -> AsyncIterator[ClientSession]:
    async with ClientSession(stage.url) as opened:
        yield opened


@pytest.fixture
def acme(session: ClientSession) -> ApiClient:
    return ApiClient(session, "acme")


async def test_a_token_is_made_shown_listed_rotated_and_revoked(
    stage: PortalStage, acme: ApiClient
) -> None:
    asked = {"name": "shop", "days": 30, "kind": "access", "paths": ["/v1/a*"]}
    status, made, headers = await acme.call("POST", "/api/tokens", asked)
    assert (status, headers["Location"]) == (201, f"/api/tokens/{made['id']}")
    secret = made.pop("token")
    assert await stage.is_live(secret)
    assert made.keys() == MEMBERS
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(
        made["created_at"]
    )
    assert lifetime.days == 30

    assert (await acme.call("GET", headers["Location"]))[:2] == (200, made)
    assert (await acme.call("GET", "/api/tokens"))[:2] == (200, [made])

    status, successor, _ = await acme.call("POST", f"{headers['Location']}/rotate")
    assert (status, successor["name"], successor["paths"]) == (201, "shop", ["/v1/a*"])
    assert await stage.is_live(secret)
    stage.now += 3601
    assert not await stage.is_live(secret)
    assert await stage.is_live(successor["token"])

    assert (await acme.call("DELETE", f"/api/tokens/{successor['id']}"))[:2] == (204, None)
    assert not await stage.is_live(successor["token"])
    assert (await acme.call("GET", "/api/tokens"))[:2] == (200, [])
    assert [line["event"] for line in stage.audit_lines] == [
        "token_created",
        "token_rotated",
        "token_revoked",
    ]
    assert {line["actor"] for line in stage.audit_lines} == {"api"}


async def test_zero_days_never_expire_and_kind_and_paths_may_be_left_out(acme: ApiClient) -> None:
    status, made, _ = await acme.call("POST", "/api/tokens", {"name": "erp", "days": 0})
    assert (status, made["expires_at"], made["kind"], made["paths"]) == (201, None, "access", [])


async def test_a_jwt_is_made_where_there_is_a_key(acme: ApiClient) -> None:
    asked = {"name": "erp", "days": 1, "kind": "jwt"}
    status, made, _ = await acme.call("POST", "/api/tokens", asked)
    assert (status, made["kind"], made["token"].count(".")) == (201, "jwt", 2)


async def test_no_overlap_ends_the_old_token_at_once(stage: PortalStage, acme: ApiClient) -> None:
    record, secret = await stage.create("acme", "shop")
    path = f"/api/tokens/{record.id}/rotate"
    assert (await acme.call("POST", path, {"overlap": "0s"}))[0] == 201
    assert not await stage.is_live(secret)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


REFUSED_CREDENTIALS = [
    ([], 401, "missing_credentials"),
    (["Bearer sct_0123456789abcdef"], 401, "missing_credentials"),
    (["Basic"], 401, "malformed_credentials"),
    (["Basic !!!"], 401, "malformed_credentials"),
    ([basic("acme")], 401, "malformed_credentials"),
    ([basic("acme:wrong")], 401, "invalid_password"),
    ([basic(f"nobody:{PASSWORD}")], 401, "invalid_password"),
    ([basic("acme:")], 401, "invalid_password"),
    ([basic("off:wrong")], 401, "invalid_password"),
    ([basic(f"off:{PASSWORD}")], 403, "account_disabled"),
    ([basic(f"acme:{PASSWORD}"), basic("acme:wrong")], 400, "ambiguous_credentials"),
]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Basic", "Authorization holds a scheme and no credential after it."),
        ("Basic acme:secret", "a colon outside of the base64"),
        (basic("acme"), "Basic has no colon between account and password."),
        (basic("acme:secret\n"), "end with a line break"),
        (basic("\ufeffacme:secret"), "begin with a byte order mark"),
        ("Digest a", "the scheme Digest is not accepted here; use Basic."),
    ],
)
async def test_a_credential_that_cannot_be_read_is_answered_with_what_is_wrong(
    session: ClientSession, line: str, says: str
) -> None:
    async with session.get("/api/tokens", headers={"Authorization": line}) as response:
        problem = await response.json()
    assert problem["code"] == "malformed_credentials"
    assert says in problem["detail"]


@pytest.mark.parametrize(("lines", "status", "code"), REFUSED_CREDENTIALS)
async def test_a_call_without_the_accounts_password_is_refused(
    session: ClientSession, lines: list[str], status: int, code: str
) -> None:
    headers = [("Authorization", line) for line in lines]
    async with session.get("/api/tokens", headers=headers) as response:
        assert (response.status, response.content_type) == (status, "application/problem+json")
        assert response.headers["Cache-Control"] == "no-store"
        problem = await response.json()
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["request_id"] == response.headers["X-Request-Id"]
        challenge = response.headers.get("WWW-Authenticate")
    assert challenge == ('Basic realm="API keys", charset="UTF-8"' if status == 401 else None)


async def test_a_failed_sign_in_is_counted_and_written_down_without_what_was_typed(
    stage: PortalStage, session: ClientSession
) -> None:
    await ApiClient(session, "acme", "a-wrong-secret").call("GET", "/api/tokens")
    await ApiClient(session, "a-secret-as-name", "x").call("GET", "/api/tokens")
    assert stage.gate.failures == [("127.0.0.1", "acme"), ("127.0.0.1", "a-secret-as-name")]
    events = [(line["event"], line["account"]) for line in stage.audit_lines]
    assert events == [("sign_in_failed", "acme"), ("sign_in_failed", None)]
    assert "secret" not in repr(stage.audit_lines)


async def test_a_banned_caller_learns_when_to_retry_and_no_password_is_checked(
    stage: PortalStage, acme: ApiClient
) -> None:
    stage.gate.ban_seconds = 42
    status, problem, headers = await acme.call("GET", "/api/tokens")
    assert (status, problem["code"], headers["Retry-After"]) == (429, "too_many_failures", "42")
    assert (stage.gate.failures, stage.gate.sign_ins) == ([], [])


DAYS = "Enter a whole number of days from 0 to 36500; 0 means that the token never expires."
WRONG_FIELDS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"#/name": "This field is required.", "#/days": "This field is required."}),
    ({"name": "a", "days": "30"}, {"#/days": DAYS}),
    ({"name": "a", "days": True}, {"#/days": DAYS}),
    ({"name": "a", "days": -1}, {"#/days": DAYS}),
    ({"name": "a", "days": 1.5}, {"#/days": DAYS}),
    ({"name": "a", "days": 36501}, {"#/days": DAYS}),
    ({"name": "a", "days": 1, "token": "x"}, {"#/token": "Remove this field: it is unknown."}),
    ({"name": "a", "days": 1, "kind": "imported"}, {"#/kind": "Choose an access token or a JWT."}),
    ({"name": "a", "days": 1, "paths": "/a"}, {"#/paths": "Give the paths as a list of texts."}),
    (
        {"name": " ", "days": None, "kind": 1, "paths": ["v1"]},
        {
            "#/name": "Give the token a name, so that you can recognise it later.",
            "#/days": DAYS,
            "#/kind": "Choose an access token or a JWT.",
            "#/paths": "The path pattern 'v1' does not start with a slash.",
        },
    ),
    ({"name": "n" * 101, "days": 1}, {"#/name": "Shorten the name to 100 characters."}),
    (
        {"name": "a\u202eb", "days": 1},
        {"#/name": "Remove control and invisible characters from the name."},
    ),
]


@pytest.mark.parametrize(("asked", "wrong"), WRONG_FIELDS)
async def test_all_wrong_fields_are_reported_at_once_and_nothing_is_created(
    stage: PortalStage, acme: ApiClient, asked: dict[str, Any], wrong: dict[str, str]
) -> None:
    status, problem, _ = await acme.call("POST", "/api/tokens", asked)
    assert (status, problem["code"]) == (422, "invalid_fields")
    assert {error["pointer"]: error["detail"] for error in problem["errors"]} == wrong
    assert await stage.names("acme") == []


OVERLAPS: list[tuple[object, int, str]] = [
    ("720h", 201, ""),
    ("1.5h", 201, ""),
    ("30.5d", 422, "Choose an overlap from 0s to 30d, such as 1h."),
    ("60", 422, "'60' is not a duration; write it like 500ms, 3s, 5m, 1h or 14d."),
    (60, 422, "This value is not a duration; write it like 500ms, 3s, 5m, 1h or 14d."),
]


@pytest.mark.parametrize(("overlap", "status", "detail"), OVERLAPS)
async def test_an_overlap_is_any_duration_up_to_30_days(
    stage: PortalStage, acme: ApiClient, overlap: object, status: int, detail: str
) -> None:
    record, _ = await stage.create("acme", "shop")
    path = f"/api/tokens/{record.id}/rotate"
    got, answer, _ = await acme.call("POST", path, {"overlap": overlap})
    assert got == status
    assert [error["detail"] for error in answer.get("errors", [])] == ([detail] if detail else [])


@pytest.mark.parametrize("days", [0, 31])
async def test_an_account_gets_no_longer_lifetime_than_it_may_have(
    session: ClientSession, days: int
) -> None:
    brief = ApiClient(session, "brief")
    status, problem, _ = await brief.call("POST", "/api/tokens", {"name": "a", "days": days})
    assert (status, problem["errors"][0]["detail"]) == (
        422,
        "Enter a whole number of days from 1 to 30: no token of account brief may live longer.",
    )


async def test_without_a_key_no_jwt_can_be_asked_for(stage: PortalStage, acme: ApiClient) -> None:
    stage.set_accounts(*stage.config.accounts.values(), can_issue_jwt=False)
    asked = {"name": "a", "days": 1, "kind": "jwt"}
    status, problem, _ = await acme.call("POST", "/api/tokens", asked)
    assert (status, problem["errors"][0]["pointer"]) == (422, "#/kind")


BODIES: list[tuple[bytes, str, int, str]] = [
    (b"{", "application/json", 400, "bad_request"),
    (b"[]", "application/json", 400, "bad_request"),
    (b'{"name":"a","name":"b","days":1}', "application/json", 400, "bad_request"),
    (b'{"name":"\xff","days":1}', "application/json", 400, "bad_request"),
    (b"[" * 60000, "application/json", 400, "bad_request"),
    (b'{"name":"a","days":1e999}', "application/json", 400, "bad_request"),
    (b"{}" + b" " * 70000, "application/json", 413, "body_too_large"),
    (b"name=a&days=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b"{}", "text/json", 415, "unsupported_media_type"),
    (b'{"name":"a","days":1}', "application/json; charset=nonsense", 201, ""),
]


@pytest.mark.parametrize(("body", "media_type", "status", "code"), BODIES)
async def test_a_body_is_one_json_object_of_bounded_size(
    acme: ApiClient, body: bytes, media_type: str, status: int, code: str
) -> None:
    sent = {"data": body, "headers": {"Content-Type": media_type}}
    got, answer, _ = await acme.call("POST", "/api/tokens", **sent)
    assert (got, answer.get("code", "")) == (status, code)


UNREADABLE: list[tuple[str, bytes, int]] = [
    ("Content-Encoding: gzip\r\nContent-Length: 5", b"abcde", 415),
    ("Content-Encoding: br\r\nContent-Length: 5", b"abcde", 415),
    ("Content-Length: 999999", b"", 413),
    ("Transfer-Encoding: chunked", b"zz\r\n", 400),
    ("Content-Length: 5\r\nExpect: a-miracle", b"", 417),
    ("Content-Length: 5\r\nExpect: 100-continue, a-miracle", b"", 417),
    ("Content-Length: 5\r\nExpect: 100-continue\r\nExpect: x", b"", 417),
    ("Content-Length: 5\r\nExpect: ", b"abcde", 400),
]


@pytest.mark.parametrize(("fields", "body", "status"), UNREADABLE)
async def test_a_body_that_can_not_be_read_is_refused_at_once_and_leaves_no_traceback(
    stage: PortalStage, caplog: pytest.LogCaptureFixture, fields: str, body: bytes, status: int
) -> None:
    answer = await exchange(
        stage,
        f"POST /api/tokens HTTP/1.1\r\nHost: a\r\nAuthorization: {basic(f'acme:{PASSWORD}')}\r\n"
        f"Content-Type: application/json\r\n{fields}\r\nConnection: close\r\n\r\n".encode()
        + body,
    )
    assert f" {status} " in answer.partition("\r\n")[0]
    assert "application/problem+json" in answer
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_caller_that_leaves_in_the_middle_of_a_body_causes_no_error(
    stage: PortalStage, acme: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /api/tokens HTTP/1.1\r\nHost: a\r\nAuthorization: {basic(f'acme:{PASSWORD}')}\r\n"
    _, writer = await connect(stage)
    fields = "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    writer.write(f"{head}{fields}".encode())
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.transport.abort()
    assert (await acme.call("GET", "/api/tokens"))[:2] == (200, [])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def connect(stage: PortalStage) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = stage.url.removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(stage: PortalStage, request: bytes) -> str:
    """Return the answer, which must come before a body that is announced and never sent."""
    reader, writer = await connect(stage)
    writer.write(request)
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
        body = await reader.readexactly(length)
    writer.close()
    return head + body.decode()


async def test_a_name_is_taken_once_and_a_token_rotated_once(
    stage: PortalStage, acme: ApiClient
) -> None:
    record, _ = await stage.create("acme", "shop")
    again = {"name": "shop", "days": 1}
    status, problem, _ = await acme.call("POST", "/api/tokens", again)
    assert (status, problem["code"]) == (409, "name_taken")
    path = f"/api/tokens/{record.id}/rotate"
    assert (await acme.call("POST", path))[0] == 201
    status, problem, _ = await acme.call("POST", path)
    assert (status, problem["code"]) == (409, "already_rotated")


async def test_a_flood_of_creations_makes_as_many_tokens_as_the_account_may_have(
    stage: PortalStage, acme: ApiClient
) -> None:
    stage.change_account("acme", max_tokens=5)
    asked = [{"name": f"shop {number}", "days": 1} for number in range(30)]
    answers = await asyncio.gather(*(acme.call("POST", "/api/tokens", one) for one in asked))
    assert sorted(status for status, _, _ in answers) == [201] * 5 + [409] * 25
    (problem,) = {
        (answer["code"], answer["detail"]) for status, answer, _ in answers if status == 409
    }
    assert problem == (
        "too_many_tokens",
        "Account acme has 5 tokens, and may have 5: revoke one that is no longer needed, or have "
        "accounts.acme.max_tokens raised.",
    )
    _, tokens, _ = await acme.call("GET", "/api/tokens")
    path = f"/api/tokens/{tokens[0]['id']}"
    assert (await acme.call("POST", f"{path}/rotate"))[0] == 201
    assert (await acme.call("DELETE", path))[0] == 204
    assert (await acme.call("POST", "/api/tokens", asked[0]))[1]["code"] == "too_many_tokens"


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("POST", "/rotate")])
@pytest.mark.parametrize("whose", ["other", "nobody"])
async def test_another_accounts_token_is_as_unknown_as_one_that_does_not_exist(
    stage: PortalStage, acme: ApiClient, method: str, tail: str, whose: str
) -> None:
    record, secret = await stage.create("other", "private")
    token_id = record.id if whose == "other" else "0" * 14
    status, problem, _ = await acme.call(method, f"/api/tokens/{token_id}{tail}")
    del problem["request_id"]
    assert (status, problem) == (
        404,
        {
            "title": "No such token",
            "status": 404,
            "code": "unknown_token",
            "detail": "No live token has this id: it may have expired or been revoked; list the "
            "tokens to see which are live.",
        },
    )
    assert await stage.is_live(secret)
    assert len(await stage.tokens("other")) == 1


async def test_an_account_lists_its_own_tokens_alone(stage: PortalStage, acme: ApiClient) -> None:
    await stage.create("other", "private")
    await stage.create("acme", "shop")
    _, tokens, _ = await acme.call("GET", "/api/tokens")
    assert [token["name"] for token in tokens] == ["shop"]


async def test_spaces_around_a_name_make_no_other_name(acme: ApiClient) -> None:
    _, made, _ = await acme.call("POST", "/api/tokens", {"name": " shop  ", "days": 1})
    assert made["name"] == "shop"
    status, problem, _ = await acme.call("POST", "/api/tokens", {"name": "shop ", "days": 1})
    assert (status, problem["code"]) == (409, "name_taken")


async def test_two_accounts_may_use_one_name(stage: PortalStage, acme: ApiClient) -> None:
    await stage.create("other", "shop")
    assert (await acme.call("POST", "/api/tokens", {"name": "shop", "days": 1}))[0] == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_a_page_of_another_site_can_not_use_a_password_the_browser_remembers(
    stage: PortalStage, acme: ApiClient, headers: dict[str, str]
) -> None:
    record, _ = await stage.create("acme", "shop")
    path = f"/api/tokens/{record.id}"
    for method, place in (("POST", f"{path}/rotate"), ("DELETE", path)):
        status, problem, _ = await acme.call(method, place, headers=headers)
        assert (status, problem["code"]) == (403, "cross_site")
    assert len(await stage.tokens("acme")) == 1


async def test_an_unreachable_store_is_a_503_and_not_a_refusal(
    stage: PortalStage, acme: ApiClient
) -> None:
    stage.store.is_away = True
    status, problem, headers = await acme.call("GET", "/api/tokens")
    assert (status, problem["code"], headers["Retry-After"]) == (503, "store_unavailable", "1")


async def test_too_many_sign_ins_at_once_are_503(stage: PortalStage, acme: ApiClient) -> None:
    stage.sign_in._room = 0
    status, problem, headers = await acme.call("GET", "/api/tokens")
    assert (status, problem["code"], "Retry-After" in headers) == (503, "overloaded", True)


async def test_a_fault_in_the_portal_tells_its_place_to_the_log_and_nothing_to_the_caller(
    stage: PortalStage,
    acme: ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError(f"the password was {PASSWORD}")

    monkeypatch.setattr(stage.store, "list", fail)
    status, problem, _ = await acme.call("GET", "/api/tokens")
    assert (status, problem["code"]) == (500, "internal_error")
    assert problem["request_id"] in caplog.text
    assert "RuntimeError at test_portal_api.py" in caplog.text
    assert PASSWORD not in caplog.text + repr(problem)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/api/tokens/a/b/c", 404, "not_found"),
        ("PUT", "/api/tokens", 405, "method_not_allowed"),
        ("POST", "/openapi.json", 405, "method_not_allowed"),
    ],
)
async def test_an_unknown_address_or_method_is_a_problem_too(
    acme: ApiClient, method: str, path: str, status: int, code: str
) -> None:
    got, problem, headers = await acme.call(method, path)
    assert (got, problem["code"]) == (status, code)
    assert ("Allow" in headers) == (status == 405)


async def test_a_request_that_can_not_be_parsed_is_neither_repeated_nor_logged(
    stage: PortalStage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    secret = basic(f"acme:{PASSWORD}")
    request = f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {secret}\0\r\n\r\n"
    answer = await exchange(stage, request.encode())
    assert " 400 " in answer.partition("\r\n")[0]
    assert secret.split()[1] not in answer + caplog.text
    assert "Content-Security-Policy: default-src 'none'" in answer
    assert "\r\nServer:" not in answer


async def test_a_password_in_utf_8_with_colons_is_read(
    stage: PortalStage, session: ClientSession
) -> None:
    from sidecar.core.passwords import hash_password

    stage.change_account("acme", password_hash=hash_password("pä:ss:wörd"))
    assert (await ApiClient(session, "acme", "pä:ss:wörd").call("GET", "/api/tokens"))[0] == 200
    assert (await ApiClient(session, "acme").call("GET", "/api/tokens"))[0] == 401


PATTERNS = (
    "/ /a /v1/{id} /a/** /** /a* /*a*b /a.b /.a /%41 //a /a/ /*.json /... /a%2eb /{a}/**",
    "/a{b} /{1} /{} /a** /**/b /. /.. /a/../b /%2e /%2E%2e /.%2e/a /a%2 /a%zz /a?b /a#b /a\\b a",
)


@pytest.mark.parametrize("pattern", [*" ".join(PATTERNS).split(), "", "/a b", "/ä", "/a\n"])
def test_the_description_takes_the_paths_that_the_code_takes(pattern: str) -> None:
    items = describe()["components"]["schemas"]["NewToken"]["properties"]["paths"]["items"]
    try:
        compile_pattern(pattern)
        is_taken = True
    except ValueError:
        is_taken = False
    whole = re.sub(r"\$$", r"\\Z", items["pattern"])
    assert (re.search(whole, pattern) is not None) == is_taken


def test_the_description_has_every_operation_and_the_documentation_every_code() -> None:
    described = describe()
    assert described["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        assert operation.method.lower() in described["paths"][operation.path]
    text = (ROOT / "docs" / "reference" / "portal.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.M)
    assert dict(rows) == {code: str(PROBLEM_TYPES[code].status) for code in API_CODES}


async def test_schemathesis_finds_no_failure_and_no_status_that_is_not_described(
    stage: PortalStage, tmp_path: Path
) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    command = [str(program), "run", f"{stage.url}/openapi.json", "--auth", f"acme:{PASSWORD}"]
    command += ["--max-examples", "25", "--generation-deterministic", "--no-color"]
    # A rotation without overlap ends the token that was created: its 404 is right.
    command += ["--exclude-checks", "ensure_resource_availability"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-4000:]
    assert await stage.names("acme"), "tokens were made on the way"
