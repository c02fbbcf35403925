"""The account holder's door to its tokens: a page and an HTTP API, on a listener of their own.

*terms* are what the configuration says at this moment; *parts* are what the portal is made of; the
*door* tells who may come in; a *visit* is one request of a browser with its session; a *problem* is
an error of the API. All changes to tokens are ``sidecar.tokens.lifecycle``'s.
"""
