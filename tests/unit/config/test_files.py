"""The files that a configuration names are opened when it is checked."""

from __future__ import annotations

import datetime
import json
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from sidecar.config.load import load
from sidecar.config.settings import Settings
from sidecar.core.errors import ConfigurationError
from sidecar.core.key_documents import MAX_SET_BYTES

MINIMAL = """\
upstreams: {listener: {url: "https://listener"}}
routes: [{path: /x}]
"""
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def pem_of(key: PrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


def certificate_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sidecar.test")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory with one file of each kind."""
    directory = tmp_path_factory.mktemp("files")
    own, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    short = rsa.generate_private_key(65537, 1024)
    contents = {
        "both.pem": certificate_of(own) + pem_of(own),
        "chain.crt": certificate_of(other) + certificate_of(own),
        "cut.crt": certificate_of(own) + certificate_of(other)[:-60],
        "der.crt": ssl.PEM_cert_to_DER_cert(certificate_of(own).decode()),
        "short.crt": certificate_of(short),
        "own.crt": certificate_of(own),
        "own.key": pem_of(own),
        "other.key": pem_of(other),
        "locked.key": pem_of(own, b"hunter2"),
        "ed25519.pem": pem_of(ed25519.Ed25519PrivateKey.generate()),
        "rsa.pem": pem_of(rsa.generate_private_key(65537, 2048)),
        "short.pem": pem_of(short),
        "p384.pem": pem_of(ec.generate_private_key(ec.SECP384R1())),
        "hmac": b"0123456789abcdef0123456789abcdef\n",
        "text": b"hunter2\n",
        "jwks.json": json.dumps(
            {"keys": [{"kty": "oct", "k": "aHVudGVyMg" * 5, "alg": "HS256"}]}
        ).encode(),
        "jwks-large.json": b'{"keys": []}' + b" " * MAX_SET_BYTES,
        "large": b"x" * (1024 * 1024 + 1),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    os.mkfifo(directory / "pipe")
    return directory


def settings_of(files: Path, text: str) -> Settings:
    path = files / "sidecar.yaml"
    path.write_text(MINIMAL + text + "\n")
    return load(path, {})


TLS = "listen: {{tls: {{certificate: {}, private_key: {}}}}}".format
KEY = "jwt: {{keys: [{{id: k, algorithm: {}, private_key: '${{file:{}}}'}}]}}".format
JWKS = (
    "jwt: {{trusted_issuers: [{{issuer: i, audience: a, jwks_file: {}, algorithms: [{}]}}]}}".format
)

STORE = "store: {{url: 'rediss://:hunter2@h?{}'}}".format

GOOD = [
    STORE("ssl_ca_certs=own.crt"),
    STORE("ssl_certfile=own.crt&ssl_keyfile=own.key&ssl_cert_reqs=CERT_NONE"),
    STORE("ssl_certfile=own.crt&ssl_keyfile=locked.key&ssl_password=hunter2"),
    STORE("ssl_certfile=both.pem&ssl_ca_path=."),
    STORE("ssl_ciphers=ECDHE"),
    TLS("own.crt", "own.key"),
    "listen: {tls: {certificate: own.crt, private_key: own.key, client_ca: own.crt}}",
    KEY("EdDSA", "ed25519.pem"),
    KEY("RS256", "rsa.pem"),
    KEY("PS256", "rsa.pem"),
    KEY("ES256", "own.key"),
    KEY("HS256", "hmac"),
    KEY("EdDSA", "ed25519.pem") + "\nidentity: {assertion: {lifetime: 30s}}",
    JWKS("jwks.json", "HS256"),
    "access_log: {path: /dev/stdout}",
]

BAD = [
    (STORE("ssl_ca_certs=none.crt"), "3:14: store.url: ssl_ca_certs ({files}/none.crt): there is"),
    (STORE("ssl_ca_certs=text"), "3:14: store.url: ssl_ca_certs ({files}/text): this file contai"),
    (STORE("ssl_ca_certs=own.key"), "3:14: store.url: ssl_ca_certs ({files}/own.key): this file"),
    (STORE("ssl_ca_certs=."), "3:14: store.url: ssl_ca_certs ({files}): this is not a regular"),
    (STORE("ssl_ca_certs=pipe"), "3:14: store.url: ssl_ca_certs ({files}/pipe): this is not"),
    (
        STORE("ssl_ca_path=none"),
        "3:14: store.url: ssl_ca_path ({files}/none): there is no such dir",
    ),
    (STORE("ssl_certfile=own.crt&ssl_keyfile=none"), "3:14: store.url: ssl_keyfile ({files}/none)"),
    (
        STORE("ssl_certfile=own.crt&ssl_keyfile=other.key"),
        "3:14: store.url: ssl_keyfile ({files}/other.key): this key does not belong to the cert",
    ),
    (
        STORE("ssl_certfile=own.crt&ssl_keyfile=locked.key&ssl_password=wrong"),
        "3:14: store.url: ssl_keyfile ({files}/locked.key): this file contains no usable PEM",
    ),
    (
        STORE("ssl_certfile=own.crt"),
        "3:14: store.url: ssl_keyfile ({files}/own.crt): this file contains no usable PEM",
    ),
    (STORE("ssl_ciphers=hunter2"), "3:14: store.url: ssl_ciphers names no cipher"),
    (
        TLS("short.crt", "short.pem"),
        "3:53: listen.tls.private_key: OpenSSL refuses the certificate as too weak (EE_KEY_TOO",
    ),
    (TLS("cut.crt", "own.key"), "3:29: listen.tls.certificate: this file contains no PEM cert"),
    (TLS("der.crt", "own.key"), "3:29: listen.tls.certificate: this file contains no PEM cert"),
    (
        TLS("chain.crt", "own.key"),
        "3:53: listen.tls.private_key: this key does not belong to the certificate",
    ),
    (TLS("none.crt", "own.key"), "3:29: listen.tls.certificate: there is no such file"),
    (TLS("own.crt", "none.key"), "3:51: listen.tls.private_key: there is no such file"),
    (
        TLS("own.crt", "other.key"),
        "3:51: listen.tls.private_key: this key does not belong to the cert",
    ),
    (
        TLS("own.crt", "locked.key"),
        "3:51: listen.tls.private_key: this file contains no usable PEM",
    ),
    (
        TLS("own.crt", "text"),
        "3:51: listen.tls.private_key: this file contains no usable PEM private key",
    ),
    (TLS("text", "own.key"), "3:29: listen.tls.certificate: this file contains no PEM certificate"),
    (
        TLS("own.key", "own.key"),
        "3:29: listen.tls.certificate: this file contains no PEM certificate",
    ),
    (TLS("large", "own.key"), "3:29: listen.tls.certificate: the file is larger than 1 MiB"),
    (TLS("/dev/zero", "own.key"), "3:29: listen.tls.certificate: this is not a regular file"),
    (TLS("pipe", "own.key"), "3:29: listen.tls.certificate: this is not a regular file"),
    (TLS(".", "own.key"), "3:29: listen.tls.certificate: this is not a regular file"),
    (KEY("EdDSA", "rsa.pem"), "3:53: jwt.keys[0].private_key: key 'k': not a key for EdDSA"),
    (KEY("RS256", "ed25519.pem"), "3:53: jwt.keys[0].private_key: key 'k': not a key for RS256"),
    (KEY("ES256", "p384.pem"), "3:53: jwt.keys[0].private_key: key 'k': not a key for ES256"),
    (
        KEY("RS256", "short.pem"),
        "3:53: jwt.keys[0].private_key: key 'k': the RSA key is shorter than 2048",
    ),
    (
        KEY("HS256", "text"),
        "3:53: jwt.keys[0].private_key: key 'k': the secret is shorter than 32 bytes",
    ),
    (KEY("HS256", "pipe"), "3:53: ${file:pipe} does not name a regular file"),
    (JWKS("text", "RS256"), "3:61: jwt.trusted_issuers[0].jwks_file: "),
    (JWKS("jwks.json", "RS256"), "3:61: jwt.trusted_issuers[0].jwks_file: "),
    (JWKS("jwks-large.json", "HS256"), "3:61: jwt.trusted_issuers[0].jwks_file: a JWK Set of more"),
    (JWKS("none.json", "RS256"), "3:61: jwt.trusted_issuers[0].jwks_file: there is no such file"),
    (
        JWKS("jwks.json", "HS256, RS256"),
        "3:84: jwt.trusted_issuers[0].algorithms: HS256 (a shared secret)",
    ),
    (
        KEY("HS256", "hmac") + "\nidentity: {assertion: {lifetime: 30s}}",
        "4:12: identity.assertion: an assertion needs a public key to verify it; put an asym",
    ),
    (
        "jwt: {keys: [{id: k, private_key: '${file:ed25519.pem}'}, "
        "{id: k, private_key: '${file:ed25519.pem}'}]}",
        "3:64: jwt.keys[1].id: another key has this id",
    ),
    (
        "jwt: {keys: [{id: a, private_key: '${file:ed25519.pem}'}, "
        "{id: b, algorithm: HS256, private_key: '${file:hmac}'}]}",
        "3:13: jwt.keys: a shared secret (HS256) can't be combined with public keys",
    ),
]


@pytest.mark.parametrize("text", GOOD)
def test_files_that_are_what_they_should_be_are_accepted(files: Path, text: str) -> None:
    assert settings_of(files, text).upstreams["listener"].url.is_tls


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_file_that_is_not_is_a_problem_at_its_name(files: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(files, text)
    (problem,) = caught.value.problems
    expected = expected.replace("{files}", str(files))
    assert problem.removeprefix(f"{files}/sidecar.yaml:").startswith(expected)
    assert "hunter2" not in problem
    assert "BEGIN" not in problem


def test_the_tls_files_of_an_upstream_are_checked_alike(files: Path) -> None:
    tls = "tls: {ca: own.key, certificate: own.crt, private_key: other.key}"
    path = files / "upstream.yaml"
    path.write_text(MINIMAL.replace('listener"}', f'listener", {tls}}}'))
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "upstreams.listener.tls.ca",
        "upstreams.listener.tls.private_key",
    ]


def test_paths_of_tls_files_are_taken_from_the_directory_of_the_configuration(files: Path) -> None:
    tls = settings_of(files, TLS("own.crt", "own.key")).listen.tls
    assert tls is not None
    assert (tls.certificate, tls.private_key) == (files / "own.crt", files / "own.key")


def test_every_file_is_noted_before_it_is_read_there_or_not(files: Path) -> None:
    noted: list[str] = []
    path = files / "noted.yaml"
    tls = "tls: {ca: own.crt, certificate: own.crt, private_key: own.key}"
    path.write_text(
        MINIMAL.replace('listener"}', f'listener", {tls}}}')
        + "listen: {tls: {certificate: none.crt, private_key: own.key, client_ca: a.pem}}\n"
        + "jwt: {keys: [{id: k, private_key: '${file:ed25519.pem}'}], trusted_issuers: "
        + "[{issuer: i, audience: a, algorithms: [HS256], jwks_file: jwks.json}]}\n"
    )
    with pytest.raises(ConfigurationError):
        load(path, {}, lambda file: noted.append(file.name))
    assert noted == [
        "noted.yaml",
        "ed25519.pem",
        *("none.crt", "own.key", "a.pem"),
        *("own.crt", "own.key", "own.crt"),
        "jwks.json",
    ]
