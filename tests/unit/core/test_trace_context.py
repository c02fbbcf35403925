"""Whose trace a request belongs to: the Recommendation's rules, and what is made without one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.trace_context import find_parent, is_sampled, is_tracestate
from sidecar.proxy.tracing import Traces

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
UNSAMPLED = f"00-{TRACE}-{PARENT}-00".encode()

VALID = [
    SAMPLED,
    UNSAMPLED,
    f"00-{TRACE}-{PARENT}-ff".encode(),  # flags that are not known yet
    f"01-{TRACE}-{PARENT}-01".encode(),
    f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like".encode(),
    f"fe-{TRACE}-{PARENT}-01-".encode(),
]
INVALID: list[Sequence[bytes]] = [
    (),
    (b"",),
    (SAMPLED, SAMPLED),
    (f"ff-{TRACE}-{PARENT}-01".encode(),),
    (f"00-{'0' * 32}-{PARENT}-01".encode(),),
    (f"00-{TRACE}-{'0' * 16}-01".encode(),),
    (f"00-{TRACE.upper()}-{PARENT}-01".encode(),),
    (f"00-{TRACE[:-1]}-{PARENT}-01".encode(),),
    (f"00-{TRACE}-{PARENT}0-01".encode(),),
    (f"00-{TRACE}-{PARENT}-1".encode(),),
    (f"00-{TRACE}-{PARENT}-01-more".encode(),),
    (f"00-{TRACE}-{PARENT}-01-".encode(),),
    (f"00-{TRACE}-{PARENT}-0x".encode(),),
    (f"00_{TRACE}_{PARENT}_01".encode(),),
    (f"0-{TRACE}-{PARENT}-01".encode(),),
    (f"01-{TRACE}-{PARENT}-01more".encode(),),
    (f"01-{TRACE}-{PARENT}-01-{'x' * 500}".encode(),),
    (f"01-{'0' * 32}-{PARENT}-01".encode(),),
    (SAMPLED + b" ",),
    (SAMPLED + b"," + SAMPLED,),
    ("00-" + "٠" * 32 + f"-{PARENT}-01").encode().split(b"\n"),
]


@pytest.mark.parametrize("value", VALID)
def test_a_valid_traceparent_is_taken_as_it_came(value: bytes) -> None:
    assert find_parent((value,)) == value.decode()


@pytest.mark.parametrize("values", INVALID)
def test_an_invalid_traceparent_is_ignored(values: Sequence[bytes]) -> None:
    assert find_parent(values) is None


@pytest.mark.parametrize(
    ("flags", "told"), [("00", False), ("01", True), ("02", False), ("ff", True)]
)
def test_the_lowest_flag_alone_says_that_a_trace_is_sampled(flags: str, told: bool) -> None:
    assert is_sampled(f"00-{TRACE}-{PARENT}-{flags}") is told


@pytest.mark.parametrize(
    ("values", "can_be_read"),
    [
        ([b"congo=t61rcWkgMzE"], True),
        ([b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], True),
        ([b"rojo=1", b"congo=2"], True),
        ([b"a=1 , b=2,,\t c=3 "], True),
        ([b""], True),
        ([b"fw529a3039@dt=FfQe", b"1a@a=b"], True),
        ([b"a/b-c_d*e=x"], True),
        ([b"a=" + b"x" * 256], True),
        ([b"a" * 256 + b"=x"], True),
        ([b",".join(b"a%d=1" % n for n in range(32))], True),
        ([b",".join(b"a%d=1" % n for n in range(33))], False),
        ([b"a=" + b"x" * 257], False),
        ([b"a" * 257 + b"=x"], False),
        ([b"A=1"], False),
        ([b"1a=1"], False),
        ([b"a@1=x"], False),
        ([b"a@abcdefghijklmno=x"], False),
        ([b"a"], False),
        ([b"a="], False),
        ([b"a=b=c"], False),
        ([b"a=\x80"], False),
        ([b"a =1"], False),
    ],
)
def test_a_tracestate_is_read_by_the_grammar(values: list[bytes], can_be_read: bool) -> None:
    assert is_tracestate(values) is can_be_read


def test_without_export_a_callers_trace_passes_unchanged_and_the_sidecar_adds_no_span() -> None:
    assert Traces(share=0).find((SAMPLED,)) == (SAMPLED.decode(), None)
    assert Traces(share=1).find((UNSAMPLED,)) == (UNSAMPLED.decode(), None)


def test_with_export_the_sidecar_is_the_parent_in_a_trace_that_is_sampled() -> None:
    traces = Traces(exports=True)
    told, parent_id = traces.find((SAMPLED,))
    assert (told[:36], told[52:], parent_id) == (f"00-{TRACE}-", "-01", PARENT)
    assert told[36:52] != PARENT
    assert traces.find((UNSAMPLED,)) == (UNSAMPLED.decode(), None)


def test_a_later_versions_traceparent_goes_on_as_version_00_behind_a_span_of_ours() -> None:
    told, _ = Traces(exports=True).find((VALID[4],))
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", told)


@pytest.mark.parametrize("values", INVALID)
def test_without_a_valid_one_a_trace_begins_that_no_other_request_has(
    values: Sequence[bytes],
) -> None:
    begun = {Traces().find(values)[0] for _ in range(50)}
    assert len(begun) == 50
    assert all(find_parent((told.encode(),)) and told.endswith("-01") for told in begun)


def test_what_begins_here_is_a_root_span_where_it_is_sampled_and_exported() -> None:
    assert Traces(exports=True).find(())[1] == ""
    assert Traces(exports=False).find(())[1] is None
    told, parent_id = Traces(exports=True, share=0).find(())
    assert (told[-3:], parent_id) == ("-00", None)


def test_none_begins_where_that_is_switched_off() -> None:
    traces = Traces(begins=False, exports=True)
    assert traces.find(()) == traces.find((b"junk",)) == ("", None)
    assert traces.find((UNSAMPLED,))[0] == UNSAMPLED.decode()


def test_the_sampled_share_is_the_configured_one_and_follows_from_the_id() -> None:
    begun = [Traces(share=0.25).find(())[0] for _ in range(4000)]
    sampled = [told for told in begun if is_sampled(told)]
    assert 800 < len(sampled) < 1200
    assert all((int(told[19:35], 16) < 2**62) == is_sampled(told) for told in begun)


@given(st.binary(max_size=120))
def test_whatever_a_caller_sends_what_goes_on_is_valid(value: bytes) -> None:
    for traces in (Traces(), Traces(exports=True)):
        told, _ = traces.find((value,))
        assert find_parent((told.encode(),)) == told
