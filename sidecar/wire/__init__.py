"""Bytes on sockets: the client's connection, the upstream's, the pool between them, and their
parsers.

``requests`` and ``responses`` hold one parser each and decide where a message ends; ``client`` and
``upstream`` move bytes and push back when the other side is slow; ``pool`` keeps upstream
connections, ``shares`` shares them out, ``dialing`` opens them. ``accepting`` takes callers'
connections, ``turn_queue`` has them take turns, ``buffers`` bounds what they leave here, and
``deadlines`` ends what waits too long. ``listening`` opens sockets. None of them knows what a token
is.
"""
