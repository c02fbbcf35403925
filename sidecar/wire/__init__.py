"""Bytes on sockets: the client's connection, the upstream's, the pool between them, and their
parsers.

``requests`` and ``responses`` hold one parser each and decide where a message ends. ``client`` and
``upstream`` move bytes, and push back when the other side is slow; ``relay`` joins them for one
exchange. ``pool`` keeps upstream connections, ``shares`` shares them out fairly, ``dialing`` opens
them. ``listening`` binds sockets, ``accepting`` admits callers' connections, ``turn_queue`` gives
them turns on the loop, ``buffers`` limits how much they may leave in memory, and ``deadlines`` ends
waits that take too long. None of these modules knows what a token is.
"""
