"""Sends wrong passwords at a steady rate and reports the answers, in a process of its own.

``guesser.py PORT FIRST ADDRESSES A_SECOND`` guesses passwords of account N from address N, with N
from FIRST on, over a new connection each time. It stops at the end of its input, and then prints a
line for each answer: seconds since the start, address, status.
"""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import sys
import time

Answers = list[tuple[float, str, int]]


def address_of(number: int) -> str:
    return f"198.18.{number >> 8}.{number & 255}"


def ask(port: int, number: int, guess: int) -> socket.socket:
    """Send a guess; its answer is read later."""
    pair = base64.b64encode(b"account-%d:wrong %d" % (number, guess))
    address = address_of(number).encode()
    caller = socket.create_connection(("127.0.0.1", port))
    caller.sendall(
        b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\n"
        b"Authorization: Basic %b\r\nConnection: close\r\n\r\n" % (address, pair)
    )
    caller.setblocking(False)
    return caller


def read(waiting: selectors.BaseSelector, seconds: float, answers: Answers) -> bool:
    """Read the answers that arrive meanwhile; return whether to continue."""
    for key, _ in waiting.select(max(0.0, seconds)):
        if key.data is None:
            return False
        assert isinstance(key.fileobj, socket.socket)
        with contextlib.suppress(OSError):
            status = int(key.fileobj.recv(65536).split(b" ", 2)[1])
            answers.append((*key.data, status))
        waiting.unregister(key.fileobj)
        key.fileobj.close()
    return True


def guess(port: int, first: int, addresses: int, a_second: float) -> Answers:
    """Send guesses until the input ends."""
    waiting, answers = selectors.DefaultSelector(), Answers()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    began, sent = time.monotonic(), 0
    while True:
        seconds = time.monotonic() - began
        if sent <= seconds * a_second:
            number = first + sent % addresses
            caller = ask(port, number, sent)
            waiting.register(caller, selectors.EVENT_READ, (seconds, address_of(number)))
            sent += 1
        elif not read(waiting, sent / a_second - seconds, answers):
            return answers


if __name__ == "__main__":
    port, first, addresses, a_second = map(int, sys.argv[1:])
    for seconds, address, status in guess(port, first, addresses, a_second):
        print(f"{seconds:.3f} {address} {status}")
