"""Which header values mean that a connection, and not a request, is authenticated."""

from __future__ import annotations

import pytest

from sidecar.core.connection_auth import authenticates_connection, offers_connection_auth
from sidecar.wire.responses import HeadMemory, ResponseReader

CREDENTIALS = [b"NTLM TlRMTVNTUAAB", b"ntlm x", b"Negotiate YII=", b"NEGOTIATE\tYII=", b"NTLM"]
CREDENTIALS += [b" \tNegotiate a", b"Kerberos a", b"CredSSP a", b"Nego2 a"]
OTHER_CREDENTIALS = [
    b"",
    b"Bearer NTLM",
    b"Basic bnRsbTp4",
    b"NTLMv2 x",
    b"Digest ntlm=1",
    b"x-ntlm",
]
CHALLENGES = [b"NTLM", b"Negotiate", b"negotiate", b"NTLM TlRMTVNTUAAC", b"Negotiate oRQwEqADCgEA"]
CHALLENGES += [b'Basic realm="a", NTLM', b"Negotiate,NTLM", b'NTLM, Basic realm="a"']
CHALLENGES += [b'Digest realm="a, b", qop=auth ,\tNegotiate']
OTHER_CHALLENGES = [b"", b'Basic realm="NTLM"', b"Bearer", b'Digest realm="negotiate"', b"NTLMv3"]


@pytest.mark.parametrize("value", CREDENTIALS)
def test_credentials_of_a_connection_are_known_in_any_spelling(value: bytes) -> None:
    assert authenticates_connection((b"Bearer a", value))


@pytest.mark.parametrize("value", OTHER_CREDENTIALS)
def test_credentials_of_a_request_do_not_authenticate_a_connection(value: bytes) -> None:
    assert not authenticates_connection((value,))


@pytest.mark.parametrize("value", CHALLENGES)
def test_a_challenge_to_a_connection_is_known_alone_and_in_a_list(value: bytes) -> None:
    assert offers_connection_auth(value)


@pytest.mark.parametrize("value", OTHER_CHALLENGES)
def test_a_challenge_to_a_request_does_not_offer_connection_authentication(value: bytes) -> None:
    assert not offers_connection_auth(value)


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"403 Forbidden"])
def test_an_answer_says_so_each_time_it_comes(status: bytes) -> None:
    """Heads are remembered by their bytes: what one means must not be forgotten with that."""
    fields = b'WWW-Authenticate: Basic realm="a"\r\nwww-authenticate: Negotiate oRQ=\r\n'
    answer = b"HTTP/1.1 " + status + b"\r\n" + fields + b"Content-Length: 2\r\n\r\nok"
    memory, reader = HeadMemory(), ResponseReader()
    seen = []
    for _ in range(3):
        reader = ResponseReader(memory)
        reader.expect("GET", False)
        reader.receive(answer)
        assert reader.head is not None
        seen.append(reader.head.authenticates_connection)
    assert (seen, len(memory)) == ([True] * 3, 0)
