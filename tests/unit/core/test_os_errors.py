"""An error of the operating system is told in words, whoever raised it."""

from __future__ import annotations

import socket
import ssl

import pytest

from sidecar.core.os_errors import is_unknown_host, is_without_tls, reason_of


def tls_error(reason: str, verify_message: str = "") -> ssl.SSLError:
    kind = ssl.SSLCertVerificationError if verify_message else ssl.SSLError
    error = kind(1, f"[SSL: {reason}] something (_ssl.c:1)")
    error.reason = reason
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = verify_message
    return error


REASONS: list[tuple[OSError, str]] = [
    (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
    (OSError(111, "Connect call failed ('::1', 1, 0, 0)"), "Connection refused"),
    (
        OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 101] x"),
        "Connection refused",
    ),
    (FileNotFoundError(2, "No such file or directory", "/a/secret"), "No such file or directory"),
    (PermissionError(13, "Permission denied"), "Permission denied"),
    (socket.gaierror(-2, "Name or service not known"), "there is no host of this name"),
    (socket.gaierror(-5, "No address"), "there is no host of this name"),
    (socket.gaierror(-3, "Temporary failure"), "the name server does not answer"),
    (socket.gaierror(-4, "Non-recoverable failure"), "Non-recoverable failure"),
    (TimeoutError(), "no answer in time"),
    (ConnectionResetError(), "the connection was closed"),
    (OSError(), "OSError"),
    (tls_error("WRONG_VERSION_NUMBER"), "it does not speak TLS on this port"),
    (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "TLS failed (TLSV1_ALERT_PROTOCOL_VERSION)"),
    (
        tls_error("CERTIFICATE_VERIFY_FAILED", "self-signed certificate"),
        "its certificate is not valid (self-signed certificate)",
    ),
]


@pytest.mark.parametrize(("error", "reason"), REASONS, ids=lambda value: str(value)[:40])
def test_the_reason_is_told_in_words(error: OSError, reason: str) -> None:
    assert reason_of(error) == reason
    assert "[Errno" not in reason_of(error)


def test_an_unknown_host_and_an_answer_without_tls_are_told_apart_from_the_rest() -> None:
    assert [is_unknown_host(error) for error, _ in REASONS].count(True) == 4
    assert [is_without_tls(error) for error, _ in REASONS].count(True) == 1
