"""The pure heart of the sidecar: what a request means and who may pass; no socket, no clock.

Everything here is plain values and functions over them. Bytes are what travels on the wire, ``str``
is what the domain talks about; the clock, entropy and the network are passed in by the caller.

The words, as used everywhere (code, configuration, documents, logs):

account
    Who is calling. Declared in the configuration; see ``policy.Account``.
credential
    What a request carries, in a *form*: bearer, header, query or basic; see ``credentials``.
token
    An access token or imported token (opaque), or a JWT; told apart by *shape*, see ``tokens``.
record
    What the store knows of a token: everything but the token; see ``model.TokenRecord``.
target
    What follows the method on the request line, judged and taken apart; see ``targets``.
pattern
    A path with ``{name}``, ``*`` and ``/**`` in it; see ``patterns``.
route
    A pattern and methods, with an upstream and the rule of who may pass; see ``routes``.
identity
    What the upstream is told about the caller, in headers that nobody else can set; see
    ``request_heads``.
denial
    "No": a value with one stable code; see ``model.Denial``. "I don't know" is a fault, and an
    exception; see ``errors``.
"""
