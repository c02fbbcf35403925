"""The pure core of the sidecar: what a request means and who may pass; no I/O, no clock.

It consists of plain values and functions over them. Data from the wire is ``bytes``, domain values
are ``str``; callers pass in the clock, entropy and whatever comes from the network.

These words mean the same everywhere (code, configuration, documentation, logs):

account
    Who is calling. Declared in the configuration; see ``policy.Account``.
credential
    What a request authenticates with, in one *form*: bearer, header, query or basic; see
    ``credentials``.
token
    An access token or imported token (both opaque), or a JWT. Its *shape* tells which; see
    ``tokens``.
record
    What the store knows of a token: everything but the token itself; see ``model.TokenRecord``.
target
    What follows the method on the request line, checked and parsed; see ``targets``.
pattern
    A path with ``{name}``, ``*`` and ``/**`` in it; see ``patterns``.
route
    A pattern and methods, an upstream, and who may pass; see ``routes``.
identity
    What the upstream learns about the caller, in headers that nobody else can set; see
    ``request_heads``.
denial
    "No": a value with one stable code; see ``model.Denial``. "I don't know" is a *fault*, which is
    an exception; see ``errors``.
"""
