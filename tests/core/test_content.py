"""The content of documents: what is well-formed, and what its name says that it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.content import Check, content_problem, document_problem

SALES = "Sync.SalesOrder"
BOD = '<?xml version="1.0"?><SyncSalesOrder xmlns="http://schema.infor.com/InforOAGIS/2"><a/>ü</SyncSalesOrder>'.encode()


@pytest.mark.parametrize("payload", [b"", b"\xff\x00", b"<a", b"{", b"plain"])
def test_nothing_is_checked_unless_it_is_asked_for(payload: bytes) -> None:
    assert content_problem(payload, SALES, "off") is None


@pytest.mark.parametrize(
    ("payload", "document"),
    [
        (BOD, SALES),
        (b"\xef\xbb\xbf" + BOD, SALES),
        (b"\n<SyncSalesOrder/>", SALES),
        (b"<anything/>", "My_Order_XML"),
        (b'{"a": [1, 2.50, "x"]}', SALES),
        (b"[" + b"9" * 6000 + b"]", SALES),
    ],
)
@pytest.mark.parametrize("check", ["well-formed", "root"])
def test_what_is_well_formed_and_named_rightly_is_sent(payload: bytes, document: str, check: Check) -> None:
    assert content_problem(payload, document, check) is None


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "is neither XML nor JSON"),
        (b"plain text", "is neither XML nor JSON"),
        (b"<a><b></a>", "is not well-formed XML (mismatched tag: line 1, column 9)"),
        (b"<a>\n\xff</a>", "is not well-formed XML (not well-formed (invalid token): line 2, column 1)"),
        (b"<a/><b/>", "is not well-formed XML (junk after document element: line 1, column 5)"),
        (b'<!DOCTYPE a [<!ENTITY b "x">]><a>&b;</a>', "is XML that declares a document type"),
        (b"<a>" * 1001, "is XML that has more than 1000 elements in each other"),
        (b'{"a": }', "is not JSON (Expecting value: line 1, column 7)"),
        (b'["\xff"]', "is not UTF-8 (byte 3)"),
        (b"[" * 200_000, "is JSON that is nested too deep"),
    ],
)
def test_what_is_not_well_formed_is_named_with_the_place(payload: bytes, what: str) -> None:
    problem = content_problem(payload, SALES, "well-formed")
    assert problem is not None
    assert problem.what == what


def test_a_root_element_that_does_not_match_the_name_is_named() -> None:
    payload = b'<x:SyncShipment xmlns:x="urn:y"/>'
    assert content_problem(payload, SALES, "well-formed") is None
    problem = content_problem(payload, SALES, "root")
    assert problem is not None
    assert problem.what == "has the root element SyncShipment, and Sync.SalesOrder has SyncSalesOrder"


def test_an_opaque_document_may_have_any_bytes() -> None:
    for payload in (b"\xff\xfe<\x00", b"plain"):
        assert document_problem(payload, "My.Scan", "root", ()) is not None
        assert document_problem(payload, "My.Scan", "root", ("Other", "My.*")) is None
    assert document_problem(BOD, SALES, "root", ()) is None


@given(st.binary(max_size=80), st.sampled_from([b"", b"<", b"{", b"<a>"]))
def test_no_bytes_raise(payload: bytes, start: bytes) -> None:
    content_problem(start + payload, SALES, "root")
