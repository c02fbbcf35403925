"""How the operations listener reads questions: as strictly as aiohttp does, less one strictness.

A proxy in front passes on what its caller sent, also a ``User-Agent`` that came twice. aiohttp's
parser refuses that, and the front would take a refusal of its question for an outage (nginx answers
503). ``wire.repeated_fields`` says which fields may be repeated, and why that is safe.

Only a question that is a head alone is read again: one without a body, and without another question
behind it. Fronts send nothing else, and where such a head ends is beyond doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.wire.repeated_fields import Fields, hide_names, is_forgivable, restore_names
from sidecar.wire.web_runner import BoundedConnection

_END: Final = b"\r\n\r\n"
_MOST_HEAD_BYTES: Final = 256 * 1024  # a longer head is not read again


class QuestionConnection(BoundedConnection):
    """A connection of whoever asks the operations listener."""

    __slots__ = ()

    def __init__(self, manager: Any, **options: Any) -> None:
        RequestHandler.__init__(self, manager, **options)
        self._parser = QuestionParser(self._new_parser)  # type: ignore[assignment]

    def _new_parser(self) -> Any:
        """Return such a parser as aiohttp has made for this connection."""
        return HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )


class QuestionParser:
    """aiohttp's parser, which reads a head again that repeats fields that may be repeated."""

    __slots__ = ("_head", "_is_put_off", "_new_parser", "_parser")

    def __init__(self, new_parser: Callable[[], Any]) -> None:
        self._new_parser = new_parser
        self._parser = new_parser()
        self._head: bytearray | None = bytearray()
        """What has come of a question; ``None`` once its end can't be told from its bytes."""
        self._is_put_off = False

    def __getattr__(self, name: str) -> Any:
        """Be aiohttp's parser in all else."""
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:
        """Parse what has come, as aiohttp's parser does; raises what that raises."""
        if self._head is not None:
            self._head += data
            if len(self._head) > _MOST_HEAD_BYTES:
                self._head = None
        if not self._is_put_off:
            try:
                found = self._parser.feed_data(data)
            except BadHttpMessage as error:
                if self._head is None or not is_forgivable(error.message):
                    raise
                self._is_put_off = True
            else:
                if found[0]:
                    self._begin_next(found[0])
                return found
        return self._parse_again()

    def _begin_next(self, messages: Any) -> bool:
        """Begin another head if the last one was a question alone; otherwise give up, for good."""
        head = self._head
        is_alone = (
            head is not None
            and len(messages) == 1
            and messages[0][1] is EMPTY_PAYLOAD
            and head.find(_END) == len(head) - len(_END)
        )
        self._head = bytearray() if is_alone else None
        return is_alone

    def _parse_again(self) -> Any:
        """Return the question that was put off, once it has come whole."""
        if self._head is None:
            raise BadHttpMessage("a head that repeats fields is too long")
        head = bytes(self._head).lstrip(b"\r\n")
        if _END not in head:
            return (), False, b""
        self._is_put_off = False
        self._parser = self._new_parser()
        messages, is_upgraded, rest = self._parser.feed_data(hide_names(head))
        if is_upgraded or not self._begin_next(messages):
            raise BadHttpMessage("a question that repeats fields is not a head alone")
        message, payload = messages[0]
        fields = restore_names(message.raw_headers, head)
        if fields is None:
            raise BadHttpMessage("the fields are not those of the head")
        named = message._replace(headers=_as_headers(fields), raw_headers=fields)
        return ((named, payload),), False, rest


def _as_headers(fields: Fields) -> CIMultiDictProxy[str]:
    """Return fields as aiohttp's messages have them."""
    return CIMultiDictProxy(
        CIMultiDict(
            (name.decode("ascii"), value.decode("utf-8", "surrogateescape"))
            for name, value in fields
        )
    )
