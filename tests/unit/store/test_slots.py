"""What a node says of its Cluster, and where it sends a question: read, or taken for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.store.endpoints import Endpoint
from sidecar.store.slots import Redirect, View, read_redirect, read_view

ASKED = Endpoint("10.0.0.9", 7000)
A, B, C = Endpoint("10.0.0.1", 1), Endpoint("b.example", 2), Endpoint("::1", 3)
INFO = b"cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:7\r\n"
SLOTS = [
    [0, 99, [b"10.0.0.1", 1, b"id1", []], [b"b.example", 2, b"id2", []]],
    [100, 16383, [b"::1", 3]],
]


def test_a_view_names_masters_with_their_slots_and_everybody_who_can_be_asked() -> None:
    view = read_view(ASKED, INFO, SLOTS)
    assert view == View(True, 7, ((0, 99, A), (100, 16383, C)), frozenset({A, B, C, ASKED}))
    assert view.masters == {A, C}


@pytest.mark.parametrize("host", [b"", None])
def test_a_node_without_an_address_of_its_own_is_where_it_was_asked(host: bytes | None) -> None:
    view = read_view(ASKED, INFO, [[0, 5, [host, 6, b"id"]]])
    assert view is not None
    assert view.ranges == ((0, 5, Endpoint("10.0.0.9", 6)),)


def test_a_node_whose_address_is_unknown_serves_nothing() -> None:
    view = read_view(ASKED, INFO, [[0, 5, [b"?", 6, b"id"]]])
    assert view is not None
    assert view.ranges == ()


def test_a_node_that_is_cut_off_says_so() -> None:
    view = read_view(ASKED, INFO.replace(b":ok", b":fail"), SLOTS)
    assert view is not None
    assert not view.is_well


@pytest.mark.parametrize(
    ("info", "slots"),
    [
        (RuntimeError("ERR This instance has cluster support disabled"), SLOTS),
        (INFO, RuntimeError("NOPERM")),
        (b"", SLOTS),
        (INFO.replace(b"7", b"seven"), SLOTS),
        (INFO, [[0, 5]]),
        (INFO, [[0, 5, [b"h"]]]),
        (INFO, [["x", 5, [b"h", 1]]]),
        (INFO, [5]),
        (INFO, [[0, 5, [b"\xff", 1]]]),
    ],
)
def test_what_is_no_view_is_none(info: Any, slots: Any) -> None:
    assert read_view(ASKED, info, slots) is None


REDIRECTS = {
    "MOVED 3999 10.0.0.1:1": Redirect(True, A),
    "ASK 3999 b.example:2": Redirect(False, B),
    "MOVED 0 ::1:3": Redirect(True, C),
    "MOVED 0 :6381": Redirect(True, Endpoint("10.0.0.9", 6381)),
    "MOVED 0 ?:6381": None,
    "MOVED 0 nowhere": None,
    "MOVED 0 h:": None,
    "MOVED": None,
    "TRYAGAIN Multiple keys request during rehashing of slot": None,
    "CLUSTERDOWN The cluster is down": None,
}


@pytest.mark.parametrize(("reply", "meant"), REDIRECTS.items(), ids=REDIRECTS.keys())
def test_a_redirection_names_a_place_and_whether_it_is_for_good(
    reply: str, meant: Redirect | None
) -> None:
    assert read_redirect(ASKED, reply) == meant
