"""Where account holders manage their tokens: a page and an HTTP API, on a listener of their own.

The *config* is what the configuration says at this moment; the *context* is what every handler
works with; a *view* answers one page or form; a *problem* is an error of the API. All changes to
tokens go through ``sidecar.tokens.lifecycle``.
"""
