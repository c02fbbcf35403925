"""Says in which place a credential can't be read, and what is wrong with it there.

Only refused requests come here: ``core.credentials`` decides that a credential is unreadable, and
this module reads the request once more to find out why. So it costs a good request nothing.

The sentences are made of fixed texts and of configured names alone. They never repeat a byte of the
request, so an answer or a log line that quotes one holds no part of a credential.

Some slips leave a string that could be a token of another system: quotes around it, a comma after
it. Only the store knows whether such a token exists. When it does not, ``is_slip`` tells that the
caller made a slip rather than a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from sidecar.core.basic_auth import (
    MAX_BASIC_BYTES,
    MAX_PAIR_BYTES,
    WHITE_SPACE,
    decode_base64,
    has_jwt_header,
)
from sidecar.core.credentials import CredentialRules
from sidecar.core.headers import Headers, PasswordFields
from sidecar.core.model import ALL_FORMS, Credential, Denial, Form, TokenCredential
from sidecar.core.tokens import MAX_JWT_CHARS, MAX_OPAQUE_CHARS, MIN_OPAQUE_CHARS

CODE: Final = "malformed_credentials"


class Fault(NamedTuple):
    """What is wrong: a sentence for the caller, with ``{}`` for the place, and what to do."""

    sentence: str
    advice: str = ""

    def denial_in(self, place: str) -> Denial:
        """Return the denial that names the place."""
        text = self.sentence.replace("{}", place)
        return Denial(CODE, text[:1].upper() + text[1:])


class Found(NamedTuple):
    """A fault and the place where it was found."""

    place: str
    fault: Fault


Check = Callable[[bytes], object]
Checks = Sequence[tuple[Check, Fault]]

# What a token or a whole field begins or ends with: slips of programs and of copy and paste.

_QUOTE: Final = rb"(?:[\"'`]|\xe2\x80[\x98-\x9f]|\xc2[\xab\xbb])"  # typographic ones in UTF-8 too
_BOM: Final = rb"(?:\xef\xbb\xbf|\xc3\xaf\xc2\xbb\xc2\xbf|\xff\xfe|\xfe\xff)"

_HAS_BOM: Final = Fault(
    "The token in {} begins with a byte order mark.",
    "An editor or PowerShell puts a byte order mark (BOM) at the start of a file: save the file as "
    "UTF-8 without BOM, or strip it when reading.",
)
_MISSING_VALUE: Final = Fault(
    "In {}, a program's word for a missing value stands in place of the credential.",
    "The caller's program had no token, and sent null, None or the like: check where it reads it.",
)
_PLACEHOLDER: Final = Fault(
    "In {}, a placeholder stands in place of the credential; it was never filled in.",
    "A variable was not expanded: check its name, and the quotes around it (a shell expands "
    "nothing within single quotes).",
)
_HAS_FIELD_NAME: Final = Fault(
    "The value of {} repeats the name of a header field.",
    "Give the HTTP client the name and the value apart.",
)
_HAS_SCHEME: Final = Fault(
    "The token in {} begins with the name of a scheme.",
    "The scheme (such as Bearer) stands once, in Authorization, and nowhere else: the caller's "
    "library may add it by itself.",
)
_HAS_NAME: Final = Fault(
    "The token in {} has a name and a sign before it; send the token alone.",
    "What was sent looks like name=token or name: token.",
)
_IS_JSON: Final = Fault(
    "In {}, JSON stands in place of a token; send the token alone.",
    "It is probably the whole answer of a token endpoint: send the value of its access_token.",
)
_IS_QUOTED: Final = Fault(
    "The token in {} has a quotation mark around it; send it without.",
    "The quotation marks of a configuration file or a shell became part of the value.",
)
_IS_BRACKETED: Final = Fault(
    "The token in {} is in brackets; send it without.",
    "The brackets of a manual's example are not part of the value.",
)
_IS_SHORTENED: Final = Fault(
    "The token in {} was shortened for display; send the whole token.",
    "It was copied from a page or a log that shows only its beginning.",
)
_HAS_SEPARATOR: Final = Fault(
    "The token in {} ends with a comma or a semicolon; send it without.",
    "It was copied out of a list, a line of code or a cookie.",
)
_HAS_LINE_BREAK: Final = Fault(
    "The token in {} has a line break in it, or the characters \\n after it.",
    "It was read from a file or made with echo: strip the line break (printf %s, echo -n).",
)
_HAS_SPACE: Final = Fault(
    "The token in {} has white space in it, which no token has.",
    "It was wrapped when it was copied, or two values stand in one place.",
)
_HAS_CONTROL: Final = Fault(
    "The token in {} has a control character in it.",
    "It may be in UTF-16, or hold binary data: send its characters as ASCII.",
)
_HAS_INVISIBLE: Final = Fault(
    "The token in {} has an invisible character in it, such as a no-break space.",
    "It was copied from a document or a chat: copy it as plain text, or type the blank anew.",
)
_HAS_NON_ASCII: Final = Fault(
    "The token in {} has a character in it that no token has: tokens are ASCII.",
    "A dash, a quotation mark or a letter was replaced by a look-alike.",
)
_IS_ENCODED: Final = Fault(
    "The token in {} is percent-encoded once too often.",
    "In a header, nothing is percent-encoded; in a query, everything is, once: a library may do it "
    "by itself.",
)
_IS_EMPTY: Final = Fault("{} is empty.", "The variable that should hold the token is empty.")
_IS_SHORT: Final = Fault(
    f"The token in {{}} is shorter than {MIN_OPAQUE_CHARS} characters, as no token is.",
    "It was cut off, or it is something else: a user name, an id.",
)
_IS_LONG: Final = Fault(
    f"The token in {{}} is longer than {MAX_OPAQUE_CHARS} characters, as only a JWT may be.",
    "Several values may have been joined.",
)
_IS_TOO_LONG: Final = Fault(
    f"The token in {{}} is longer than {MAX_JWT_CHARS} characters.",
    "Ask its issuer for a token with fewer claims.",
)
_IS_CUT_JWT: Final = Fault(
    "The token in {} looks like a JWT, but a JWT has three parts, with a dot between each two.",
    "It was cut off, or joined with something else. An encrypted one (five parts) is not accepted.",
)
_IS_ODD_JWT: Final = Fault(
    "The token in {} looks like a JWT, but has a character that no JWT has.",
    "The parts of a JWT are in base64url: letters, digits, - and _ alone.",
)

_MOST_PLACEHOLDER_BYTES: Final = 256
_CUT_MARKS: Final = (b"...", b"\xe2\x80\xa6", b"[masked]", b"[redacted]")
_CONTROLS: Final = bytes((*range(32), 127))

_is_filler: Final = re.compile(
    rb"%b?(?:\$[A-Za-z_]\w*|\$env:\w+|%%+[A-Za-z_]\w*%%+|[#@$]?\{+ ?[A-Za-z_][\w.]* ?\}+"
    rb"|\$\{.*\}|\$\(.*\)|<[A-Za-z][\w .-]{0,39}>|\[[A-Za-z][\w .-]{0,39}\]|__[A-Za-z]\w*__"
    rb"|(?i:your|my|the|insert|enter|paste)[-_](?i:[a-z]+[-_])*(?i:token|key|jwt|password)"
    rb"(?:[-_](?i:here))?)%b?" % (_QUOTE, _QUOTE),
    re.DOTALL,
).fullmatch
_find_variable: Final = re.compile(rb"\$\{[A-Za-z_]\w*\}|\{\{[^{}]*\}\}").search
_is_missing_value: Final = re.compile(
    rb"\(?(?:null|nil|none|nan|undefined|nullptr|n/a|true|false|\[object object\])\)?",
    re.IGNORECASE,
).fullmatch
_is_quote: Final = re.compile(_QUOTE).match
_ends_in_quote: Final = re.compile(_QUOTE + rb"\Z").search
_find_invisible: Final = re.compile(
    rb"\xc2[\xa0\xad]|\xe2\x80[\x80-\x8f]|\xe2\x81\xa0|\xef\xbb\xbf"
).search
_find_encoded: Final = re.compile(rb"%[0-9A-Fa-f]{2}").search


# Of these characters, only what begins like this can be a slip: a scheme without a space, a
# placeholder, a part of a JWT.
_is_plain: Final = re.compile(rf"[0-9A-Za-z_-]{{{MIN_OPAQUE_CHARS},{MAX_OPAQUE_CHARS}}}").fullmatch
_UNLIKE_TOKENS: Final = ("bearer", "your", "my", "the", "insert", "enter", "paste", "__", "ey")

# A stranger may send kilobytes of anything: each check is a few passes at the speed of C.


def _is_placeholder(value: bytes) -> bool:
    if len(value) <= _MOST_PLACEHOLDER_BYTES and _is_filler(value):
        return True
    return b"}" in value and _find_variable(value) is not None


def _is_quoted(value: bytes) -> bool:
    return _is_quote(value.removeprefix(b"\\")[:3]) is not None or (
        _ends_in_quote(value[-3:]) is not None
    )


def _is_bracketed(value: bytes) -> bool:
    return value[:1] + value[-1:] in (b"<>", b"[]", b"()")


def _is_shortened(value: bytes) -> bool:
    return any(mark in value for mark in _CUT_MARKS)


def _has_separator(value: bytes) -> bool:
    return value.rstrip(b" \t\r\n").endswith((b",", b";"))


def _has_line_break(value: bytes) -> bool:
    return b"\n" in value or b"\r" in value or value.endswith(b"\\n")


def _has_space(value: bytes) -> bool:
    return b" " in value or b"\t" in value


_FILLERS: Final[Checks] = (
    (_is_missing_value, _MISSING_VALUE),
    (_is_placeholder, _PLACEHOLDER),
)
_SLIPS: Final[Checks] = (
    (re.compile(_BOM).match, _HAS_BOM),
    *_FILLERS,
    (re.compile(rb"(?:proxy-)?authorization *[:=]", re.I).match, _HAS_FIELD_NAME),
    (re.compile(rb"(?:bearer|basic|token|jwt)(?:[ \t,+]|%20)", re.I).match, _HAS_SCHEME),
    (re.compile(rb"(?:bearer|basic) *[:=]", re.I).match, _HAS_SCHEME),
    (re.compile(rb"bearer[\w-]{32}", re.I).match, _HAS_SCHEME),
    (
        re.compile(rb"(?:(?:access|jwt|id|api|auth)[-_]?)?(?:token|key|jwt) *[:=]", re.I).match,
        _HAS_NAME,
    ),
    (re.compile(rb"\{\s*\"").match, _IS_JSON),
    (_is_quoted, _IS_QUOTED),
    (_is_bracketed, _IS_BRACKETED),
    (_is_shortened, _IS_SHORTENED),
    (_has_separator, _HAS_SEPARATOR),
    (_has_line_break, _HAS_LINE_BREAK),
)
_CHARACTERS: Final[Checks] = (
    (_has_space, _HAS_SPACE),
    (lambda value: value.translate(None, _CONTROLS) != value, _HAS_CONTROL),
    (lambda value: not value.isascii() and _find_invisible(value), _HAS_INVISIBLE),
    (lambda value: not value.isascii(), _HAS_NON_ASCII),
    (_find_encoded, _IS_ENCODED),
)
_is_jwt: Final = re.compile(rb"[\w-]+={0,2}(?:\.[\w-]+={0,2}){2}").fullmatch

# Authorization as a whole.

_NOTHING_BUT_SCHEME: Final = Fault(
    "{} holds a scheme and no credential after it.",
    "The variable that should hold the token is empty.",
)
_TWO_SCHEMES: Final = Fault(
    "{} names the scheme twice; send it once.",
    "The caller's library adds the scheme by itself: give it the token alone.",
)
_NO_SPACE: Final = Fault(
    "In {}, a space and nothing else belongs between the scheme and the credential.",
    "Write: Authorization: Bearer TOKEN.",
)
_TWO_IN_ONE: Final = Fault(
    "{} holds more than one credential in one field; send one.",
    "A proxy or a library joined two Authorization fields into one.",
)
_HAS_PARAMETERS: Final = Fault(
    "{} holds parameters (name=value) where the token alone belongs; use Bearer.",
    "Write: Authorization: Bearer TOKEN.",
)

_SCHEMES: Final = (
    *("Digest", "Negotiate", "NTLM", "Kerberos", "DPoP", "Hawk", "OAuth", "Mutual", "GNAP"),
    *("AWS4-HMAC-SHA256", "ApiKey", "Api-Key", "Token", "JWT", "Key", "Signature", "vapid"),
    *("PrivateToken", "access_token", "jwt_token", "HOBA", "Concealed"),
)
_NAMES_OF_SCHEMES: Final = {name.lower().encode(): name for name in _SCHEMES}
_parse_scheme: Final = re.compile(rb"([A-Za-z][\w-]*)([ \t:=,]*)(.*)", re.DOTALL).fullmatch
_has_second: Final = re.compile(rb", *(?:bearer|basic) ", re.I).search
_has_parameters: Final = re.compile(rb"[a-z_]+ *= *\"", re.I).match
_has_joined_scheme: Final = re.compile(rb"(?:bearer|basic)", re.I).match

# Basic, and the pair of header fields.

_TOO_LONG: Final = Fault(
    f"In {{}}, account and password are longer than {MAX_PAIR_BYTES} bytes.",
    "A password this long is refused; if it is a token, send it with Bearer.",
)
_BASIC_NOT_ENCODED: Final = Fault(
    "In {}, Basic has a colon outside of the base64: account and password belong in base64.",
    "Encode account:password: printf %s 'acme:password' | base64. Or use the client's own option "
    "(curl --user).",
)
_BASIC_NOT_BASE64: Final = Fault(
    "The base64 of Basic in {} can't be decoded.",
    "base64 has letters, digits, + and / alone, and = at its end to a multiple of four.",
)
_BASIC_UTF_16: Final = Fault(
    "In {}, account and password are in UTF-16; they belong in UTF-8.",
    "PowerShell: [Text.Encoding]::UTF8.GetBytes, not Unicode.",
)
_BASIC_BOM: Final = Fault(
    "In {}, account and password begin with a byte order mark.", _HAS_BOM.advice
)
_BASIC_PLACEHOLDER: Final = Fault(
    "In {}, a placeholder stands in place of the account; it was never filled in.",
    _PLACEHOLDER.advice,
)
_BASIC_QUOTED: Final = Fault(
    "In {}, account and password have quotation marks around them.", _IS_QUOTED.advice
)
_BASIC_LINE_BREAK: Final = Fault(
    "In {}, account and password end with a line break.",
    "echo adds it: printf %s 'acme:password' | base64.",
)
_BASIC_CONTROL: Final = Fault("In {}, account and password have a control character in them.")
_BASIC_NO_COLON: Final = Fault(
    "In {}, Basic has no colon between account and password.",
    "Basic is the base64 of account:password. A token alone is sent with Bearer.",
)
_BASIC_NO_ACCOUNT: Final = Fault(
    "In {}, Basic has no account before the colon.", "Basic is the base64 of account:password."
)
_PAIR_NO_ACCOUNT: Final = Fault(
    "In {}, the account is empty.", "Send the account's name beside its password."
)

_is_utf_16: Final = re.compile(rb"\xff\xfe|\xfe\xff|(?:[^\0]\0)+\Z|(?:\0[^\0])+\Z").match
_is_basic_placeholder: Final = re.compile(
    rb"(?:\$\{[^:]*\}|\{\{[^:]*\}\}|<[^:]*>|\$\w+|%\w+%):"
).match
_BASIC_CHECKS: Final[Checks] = (
    (_is_utf_16, _BASIC_UTF_16),
    (re.compile(_BOM).match, _BASIC_BOM),
    (re.compile(rb"[^\r\n]*[\r\n]+\Z").match, _BASIC_LINE_BREAK),
    (re.compile(rb"(?!.*:)", re.DOTALL).match, _BASIC_NO_COLON),
    (re.compile(rb":").match, _BASIC_NO_ACCOUNT),
    (re.compile(rb"[\x00-\x1f\x7f]").search, _BASIC_CONTROL),
    (re.compile(rb"([\"']).*\1\Z", re.DOTALL).match, _BASIC_QUOTED),
    (_is_basic_placeholder, _BASIC_PLACEHOLDER),
    (lambda raw: len(raw) > MAX_PAIR_BYTES, _TOO_LONG),
)
_PAIR_CHECKS: Final[Checks] = (
    (re.compile(rb":").match, _PAIR_NO_ACCOUNT),
    *(check for check in _BASIC_CHECKS if check[1] is not _BASIC_NO_ACCOUNT),
)


def spell_out(
    denial: Denial,
    rules: CredentialRules,
    headers: Headers,
    target: str,
    forms: frozenset[Form] = ALL_FORMS,
) -> Denial:
    """Return ``denial``, with the place and the fault if it is ``malformed_credentials``.

    ``headers`` and ``target`` are those of the request, secrets included; ``forms`` are those that
    the route accepts.
    """
    if denial.code != CODE:
        return denial
    found = find(rules, headers, target, forms)
    return denial if found is None else found.fault.denial_in(found.place)


def find(
    rules: CredentialRules, headers: Headers, target: str, forms: frozenset[Form] = ALL_FORMS
) -> Found | None:
    """Return the first place whose credential can't be read, and why.

    An empty place counts only if nothing else is wrong, as in ``core.credentials``.
    """
    empty = None
    for found in _find_all(rules, headers, target, forms):
        if found.fault is not _IS_EMPTY and found.fault is not _NOTHING_BUT_SCHEME:
            return found
        empty = empty or found
    return empty


def places_of(rules: CredentialRules, headers: Headers, target: str) -> list[str]:
    """Return the places of a request that hold something, each once."""
    places = ["Authorization" for name, _ in headers if name.lower() == b"authorization"]
    named = {name.lower().encode(): name for name in rules.headers}
    places += [
        f"the header field {named[name.lower()]}"
        for name, value in headers
        if value and name.lower() in named
    ]
    query = target.partition("?")[2]
    places += [f"the query parameter {name}" for name, value in rules.values_in(query) if value]
    if rules.pair is not None and _values_of(headers, rules.pair.password):
        places.append(_place_of_pair(rules.pair))
    return [*dict.fromkeys(places)]


def is_slip(secret: str) -> bool:
    """Tell whether a token that nobody knows was sent with something that is not part of a token.

    For a string that ``core.credentials`` could read as a token. Whoever floods a proxy with
    made-up tokens has each judged here, so what can only be a token is told first.
    """
    if _is_plain(secret) and not secret[:6].lower().startswith(_UNLIKE_TOKENS):
        return False
    return find_slip(secret) is not None


def find_slip(secret: str) -> Fault | None:
    """Return what a string has, or lacks, that a token alone would not; ``None``: nothing."""
    return _find_fault(secret.encode("utf-8", "replace"))


def _find_all(
    rules: CredentialRules, headers: Headers, target: str, forms: frozenset[Form]
) -> Iterator[Found]:
    named = {name.lower().encode(): name for name in rules.headers}
    for name, value in headers:
        if name.lower() == b"authorization":
            fault = _find_in_authorization(value, rules, forms)
            if fault is not None:
                yield Found("Authorization", fault)
    for name, value in headers:
        place = named.get(name.lower())
        if place is not None and (fault := _find_fault(value.strip(_WHITE_SPACE))) is not None:
            yield Found(f"the header field {place}", fault)
    for parameter, value in rules.values_in(target.partition("?")[2]):
        if (fault := _find_fault(value.strip(_WHITE_SPACE))) is not None:
            yield Found(f"the query parameter {parameter}", fault)
    if rules.pair is not None:
        yield from _find_in_pair(rules, rules.pair, headers)


def _values_of(headers: Headers, name: str) -> list[bytes]:
    wanted = name.lower().encode()
    return [value for sent, value in headers if sent.lower() == wanted]


def _place_of_pair(pair: PasswordFields) -> str:
    return f"the header fields {pair.account} and {pair.password}"


def _find_in_pair(
    rules: CredentialRules, pair: PasswordFields, headers: Headers
) -> Iterator[Found]:
    passwords, accounts = _values_of(headers, pair.password), _values_of(headers, pair.account)
    if not passwords:
        return
    if not accounts:
        fault = Fault(
            f"{{}} came without the header field {pair.account}.",
            "Send the account's name beside its password.",
        )
        yield Found(f"the header field {pair.password}", fault if passwords[0] else _IS_EMPTY)
        return
    place = _place_of_pair(pair)
    if not accounts[0] and not passwords[0]:
        yield Found(place, _IS_EMPTY)
        return
    read = rules.read_pair(accounts[0], passwords[0])
    fault_of_pair = _find_in_read(read, b"%b:%b" % (accounts[0], passwords[0]), _PAIR_CHECKS)
    if fault_of_pair is not None:
        yield Found(place, fault_of_pair)


def _find_in_read(read: Credential | Denial, raw: bytes, checks: Checks) -> Fault | None:
    """Return what is wrong with what was read of account, colon and password."""
    if isinstance(read, TokenCredential):
        return _find_fault(read.secret.encode())
    return _first(checks, raw) if isinstance(read, Denial) else None


def _first(checks: Checks, value: bytes) -> Fault | None:
    for check, fault in checks:
        if check(value):
            return fault
    return None


def _find_fault(value: bytes) -> Fault | None:
    """Return what is wrong with a token in its place; ``None``: it could be one."""
    if not value:
        return _IS_EMPTY
    if len(value) > MAX_JWT_CHARS:
        return _IS_TOO_LONG
    fault = _first(_SLIPS, value) or _first(_CHARACTERS, value)
    if fault is not None:
        return fault
    if len(value) < MIN_OPAQUE_CHARS:
        return _IS_SHORT
    if value.count(b".") != 2 or not _is_jwt(value):
        if has_jwt_header(value):
            return _IS_ODD_JWT if value.count(b".") == 2 else _IS_CUT_JWT
        if len(value) > MAX_OPAQUE_CHARS:
            return _IS_LONG
    return None


_WHITE_SPACE: Final = WHITE_SPACE.encode()


def _find_in_authorization(
    value: bytes, rules: CredentialRules, forms: frozenset[Form]
) -> Fault | None:
    value = value.strip(b" \t")
    if not value:
        return _IS_EMPTY
    if _has_second(value):
        return _TWO_IN_ONE
    parsed = _parse_scheme(value)
    scheme, between, rest = parsed.groups() if parsed else (b"", b"", b"")
    lowered = scheme.lower()
    is_read = lowered == b"basic" or (lowered != b"" and rules.precedes_token(lowered))
    if is_read and not rest:
        return _NOTHING_BUT_SCHEME
    if is_read and between and not between.strip(b" \t"):
        if lowered == b"basic":
            return _find_in_basic(value, rest, rules)
        return _find_behind_scheme(lowered, rest)
    if is_read and between:
        return _NO_SPACE
    if lowered in _NAMES_OF_SCHEMES and between[:1] in (b" ", b"\t"):
        if _has_parameters(rest) and lowered in _TOKEN_SCHEMES:
            return _HAS_PARAMETERS
        return _foreign_scheme(f"the scheme {_NAMES_OF_SCHEMES[lowered]}", rules, forms)
    has_space = b" " in value or b"\t" in value
    if rules.takes_bare_tokens and not has_space:
        fault = _find_fault(value)
        return _NO_SPACE if fault is _HAS_SCHEME else fault
    fault = _first(_SLIPS, value)
    if fault is not None and fault is not _HAS_SCHEME:
        return fault
    if _has_joined_scheme(value):
        return _NO_SPACE
    if not has_space:
        return _no_scheme(rules, forms)
    return _foreign_scheme("this scheme", rules, forms)


def _find_behind_scheme(scheme: bytes, token: bytes) -> Fault | None:
    """Return what is wrong with what follows a scheme for tokens."""
    fault = _find_fault(token)
    if fault is _HAS_SCHEME:
        return _TWO_SCHEMES
    has_parameters = scheme in _TOKEN_SCHEMES and _has_parameters(token)
    return _HAS_PARAMETERS if fault is not None and has_parameters else fault


_TOKEN_SCHEMES: Final = frozenset({b"token", b"oauth", b"apikey", b"jwt", b"access_token"})


def _foreign_scheme(what: str, rules: CredentialRules, forms: frozenset[Form]) -> Fault:
    return Fault(
        f"In {{}}, {what} is not accepted here; {_use(rules, forms)}.",
        "Other schemes than Basic and those of credentials.schemes are never read.",
    )


def _no_scheme(rules: CredentialRules, forms: frozenset[Form]) -> Fault:
    return Fault(
        f"{{}} holds no scheme before the credential; {_use(rules, forms)}.",
        'A token without a scheme is read if "" is among credentials.schemes.',
    )


def _use(rules: CredentialRules, forms: frozenset[Form]) -> str:
    scheme_of_form = {Form.BEARER: rules.scheme, Form.BASIC: "Basic"}
    schemes = [name for form, name in scheme_of_form.items() if form in forms]
    return f"use {' or '.join(schemes)}" if schemes else "this route reads no Authorization"


def _find_in_basic(value: bytes, encoded: bytes, rules: CredentialRules) -> Fault | None:
    """Return what is wrong with what follows ``Basic``; ``None``: it can be read."""
    if len(value) > MAX_BASIC_BYTES:
        return _TOO_LONG
    raw, read = decode_base64(encoded), rules.read_authorization(value)
    if isinstance(read, Denial) and (filler := _first(_FILLERS, encoded)) is not None:
        return filler
    if raw is None:
        return _BASIC_NOT_ENCODED if b":" in encoded else _BASIC_NOT_BASE64
    return _find_in_read(read, raw, _BASIC_CHECKS)
