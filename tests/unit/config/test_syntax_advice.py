# ruff: noqa: E501  a case of a table is one line, the better to compare
"""What the YAML parser stumbles over is told in the words of the person who wrote the line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sidecar.config import document
from sidecar.config.load import load
from sidecar.core.errors import ConfigurationError

HEAD = 'upstreams: {a: {url: "http://a:1"}}\nroutes: [{path: /x}]\n'
SECRET = "s3cr3t"

# What is written, where the problem is, and a part of what is said.
CASES = [
    ("store: {url: ${X}}", "3:15", 'a substitution must stand in quotes; write {key: "${NAME}"}'),
    ("store: { url: ${X:-s3cr3t}, prefix: a }", "3:16", "a substitution must stand in quotes"),
    ("store: {url: ${file:x}}", "3:15", "a substitution must stand in quotes"),
    ("trusted_proxies: [${X}]", "3:20", "a substitution must stand in quotes"),
    ("jwt: {issuer: a{s3cr3t}}", "3:16", 'must stand in quotes; write {key: "/v1/{id}"}'),
    ("jwt: {issuer: a", "4:1", "was opened in line 3, column 6 is not closed"),
    ("trusted_proxies: [a", "4:1", "was opened in line 3, column 18 is not closed"),
    ("jwt: {issuer: @s3cr3t}", "3:15", "a text can't begin with @; put it in quotes"),
    ("jwt:\n  issuer: @s3cr3t", "4:11", "a text can't begin with @; put it in quotes"),
    ("jwt:\n  issuer: %s3cr3t", "4:11", "a text can't begin with %; put it in quotes"),
    ("jwt:\n  issuer: `s3cr3t`", "4:11", "a text can't begin with `; put it in quotes"),
    ("jwt:\n  issuer: *", "4:12", "a text can't begin with * or &; put it in quotes"),
    ("jwt: {issuer: **/x}", "3:16", "a text can't begin with * or &; put it in quotes"),
    ("jwt:\n  issuer: *abc", "4:11", "'*abc': aliases are not supported; write the value out, or put a text in quotes"),
    ("jwt:\n  issuer: !abc", "4:11", "'!abc': tags are not supported; remove it, or put a text in quotes"),
    ("jwt:\n  issuer: a: s3cr3t", "4:12", "a text can't have a colon and a space in it; put it in quotes"),
    ("jwt:\n issuer: a\n  audience: b", "5:11", "indented deeper than the one before it"),
    ("jwt:\n  issuer: a\n audience: b", "5:2", "indented differently from those of its section"),
    ("jwt\n  issuer: a", "4:9", "the key in line 3, column 1 lacks its colon"),
    ("workers:1", "4:1", "the key in line 3, column 1 lacks its colon, or the space after it"),
    ('jwt:\n  issuer: "s3cr3t', "5:1", "the quote that was opened in line 4, column 11 is never closed"),
    ("jwt:\n  issuer: 's3cr3t", "5:1", "the quote that was opened in line 4, column 11 is never closed"),
    ("jwt:\n  issuer: 'it's'", "4:15", "the text goes on after its closing quote"),
    ('jwt:\n  issuer: "C:\\path"', "4:14", "within double quotes, \\ begins an escape"),
    ("\ufeffworkers: 1", "3:2", "a byte order mark within the file"),
    ("jwt:\n\tissuer: a", "4:1", "a tab can't begin a token; indent with spaces"),
    ("workers: 1\nworkers: 2", "4:1", "the key 'workers' is already in line 3"),
    # variables, as other programs write them
    ("store: {url: $REDIS_URL}", "3:14", "store.url: $REDIS_URL stands for itself here; did you mean ${REDIS_URL}?"),
    ('store: {url: "$(REDIS_URL)"}', "3:14", "did you mean ${REDIS_URL}?"),
    ('store: {url: "%REDIS_URL%"}', "3:14", "did you mean ${REDIS_URL}?"),
    ('store: {url: "{{ REDIS_URL }}"}', "3:14", "did you mean ${REDIS_URL}?"),
    ('store: {url: "{REDIS_URL}"}', "3:14", "did you mean ${REDIS_URL}?"),
    ("workers: $WORKERS", "3:10", "did you mean ${WORKERS}?"),
    ("listen: {address: 127.0.0.1:$PORT}", "3:19", "; to insert an environment variable, write ${NAME}"),
    ('store: {url: "${env:REDIS_URL}"}', "3:14", "${env:REDIS_URL} is not a substitution; write ${REDIS_URL}"),
    ('store: {url: "${REDIS_URL-redis://:s3cr3t@h}"}', "3:14", "${REDIS_URL-...} is not a substitution; write ${REDIS_URL:-default}"),
    ('store: {url: "${REDIS_URL:=redis://:s3cr3t@h}"}', "3:14", "${REDIS_URL:=...} is not a substitution; write ${REDIS_URL:-default}"),
    ('store: {url: "${REDIS_URL:?s3cr3t}"}', "3:14", "${REDIS_URL:?...} is not a substitution"),
]  # fmt: skip


def problem_of(directory: Path, text: str | bytes) -> str:
    path = directory / "sidecar.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    return "\n".join(caught.value.problems).removeprefix(f"{path}:")


@pytest.mark.parametrize(("text", "place", "said"), CASES, ids=[case[0][:40] for case in CASES])
def test_a_mistake_in_the_syntax_is_told_with_what_to_write(
    tmp_path: Path, text: str, place: str, said: str
) -> None:
    problem = problem_of(tmp_path, f"{HEAD}{text}\n")
    assert problem.startswith(f"{place}: ")
    assert said in problem
    assert SECRET not in problem


@pytest.mark.parametrize(("text", "place", "said"), CASES[:23], ids=[c[0][:40] for c in CASES[:23]])
def test_the_parser_in_python_is_understood_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: str, said: str
) -> None:
    """Where PyYAML has no C parser; its places differ a little."""
    monkeypatch.setattr(document, "_PARSER", yaml.SafeLoader)
    problem = problem_of(tmp_path, f"{HEAD}{text}\n")
    assert said in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\n".encode("utf-16"), "this is not UTF-8 but UTF-16; save the file as UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", "YAML does not allow the character"),
        (b"\x89PNG\r\n", "this is not UTF-8; save the file as UTF-8"),
        (b"[server]\nport = 1\n", "this looks like another kind of file"),
        (b"port = 1\n", "the file is not a mapping; write sections such as `listen:`"),
        (b"<html></html>", "the file is not a mapping"),
        (b"", "the file is empty; copy the example configuration"),
    ],
)
def test_another_kind_of_file_is_told_as_such(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in problem_of(tmp_path, content)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/{id:int}", "write {id} for one segment"),
        ("/v1/{id...}", "write {id} for one segment"),
        ("/v1/{id?}", "write {id} for one segment"),
        ("^/v1/.*", "this is not a regular expression"),
        (r"/v1/\d+", "this is not a regular expression"),
        ("/v1/**/x", "has a ** that is not a final /**"),
    ],
)
def test_a_pattern_of_another_program_is_translated(tmp_path: Path, path: str, said: str) -> None:
    problem = problem_of(
        tmp_path, f"upstreams: {{a: {{url: 'http://a:1'}}}}\nroutes: [{{path: '{path}'}}]\n"
    )
    assert said in problem
