"""auth-sidecar, an authenticating reverse proxy.

docs/architecture.md says where things are, and has the glossary of the words that code, docs and
logs use.
"""

__version__ = "0.1.0"
