"""Which authentication schemes authenticate a connection instead of a request.

After an NTLM or Negotiate handshake (RFC 4559), a service takes every request on that connection as
the same user's, with or without an ``Authorization``. Once one of these schemes was used on a
connection, it must therefore never serve another caller. RFC 9110 section 11.2 authenticates single
requests; these schemes predate it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SCHEMES: Final = rb"(?:ntlm|negotiate|nego2|kerberos|credssp)"  # the last three: WinRM
_is_credential: Final = re.compile(rb"[\s,]*%b(?:[\s,]|$)" % _SCHEMES, re.IGNORECASE).match
_has_challenge: Final = re.compile(rb"(?:^|[\s,])%b(?:[\s,]|$)" % _SCHEMES, re.IGNORECASE).search


def authenticates_connection(authorization: Iterable[bytes]) -> bool:
    """Tell whether any of these ``Authorization`` values uses such a scheme."""
    return any(_is_credential(value) is not None for value in authorization)


def offers_connection_auth(challenge: bytes) -> bool:
    """Tell whether a ``WWW-Authenticate`` value names such a scheme: alone, in a list of
    challenges, or with data behind it (RFC 9110 section 11.6.1).

    A quoted realm that contains the name as a word counts as well: a false alarm costs a
    connection, whereas a missed scheme would mix up callers.
    """
    return _has_challenge(challenge) is not None
