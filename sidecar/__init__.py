"""auth-sidecar, an authenticating reverse proxy. The glossary that code, docs and logs keep.

account
    Who is calling. Declared in the configuration, with a password hash and perhaps with paths.
credential
    What a request carries to say who calls. Its *form* is bearer, header, query or basic.
token
    A credential that is one string: an *access token* (made here, opaque), an *imported* one (made
    by the system that the sidecar replaces) or a *JWT*. Has an id, a name, an account, an expiry.
digest
    The SHA-256 of a token: all that is kept of it.
route
    A path pattern and methods, with an upstream and the rule of who may pass.
upstream
    The service behind. A *downstream* or client is whoever connected to the sidecar.
identity
    What is injected into a forwarded request: by default ``X-Account``.
denial
    A refusal, a value with one stable ``code``. "No."
fault
    An exception: something did not work, and whose fault it is. "I don't know."
store
    Redis, where tokens live with their TTL.
gateway
    The life of one request, from its parsed head to the upstream's answer.
"""

__version__ = "0.1.0"
