"""A multipartMessage is checked part by part, with the status and the IMS code of ims-v3."""

import json
import zlib
from typing import Any

import pytest

from relay.sandbox.message_checks import read_message
from tests.sandbox.client import BOUNDARY, IonClient, framed, parameters, part, two_parts

TYPE = f"multipart/form-data; boundary={BOUNDARY}"
LIMIT = 100_000
GOOD = parameters("lid://acme.orders.1")


def _refused(body: bytes, content_type: str = TYPE) -> tuple[int, int] | None:
    refusal = read_message(content_type, body, LIMIT).refusal
    return None if refusal is None else (refusal.status, refusal.code)


def _with(payload: bytes = b"x", **more: Any) -> tuple[int, int] | None:
    return _refused(framed(two_parts(parameters("lid://acme.orders.1", **more), payload)))


FIRST, SECOND = two_parts(GOOD, b"x")


def test_the_two_parts_are_read_byte_for_byte() -> None:
    payload = b"\x00\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n\r\n\xff"
    message = read_message(TYPE, framed(two_parts(GOOD, payload)), LIMIT)
    assert message.refusal is None
    assert (message.parameters, message.document) == (GOOD, payload)


def test_a_quoted_boundary_a_preamble_and_an_epilogue_are_accepted() -> None:
    body = b"preamble\r\n" + framed([FIRST, SECOND]) + b"epilogue"
    assert _refused(body, f'Multipart/Form-Data; charset=x; boundary="{BOUNDARY}"') is None


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (framed([FIRST, SECOND]), "application/json", (415, 415)),
        (framed([FIRST, SECOND]), "", (415, 415)),
        (framed([FIRST, SECOND]), "multipart/mixed; boundary=x", (415, 415)),
        (framed([FIRST, SECOND]), "multipart/form-data", (400, 477)),
        (framed([FIRST, SECOND]), "multipart/form-data; boundary=other", (400, 477)),
        (b"", TYPE, (400, 453)),
        (b"nonsense", TYPE, (400, 477)),
        (framed([FIRST]), TYPE, (400, 477)),
        (framed([]), TYPE, (400, 477)),
        (framed([FIRST, SECOND, SECOND]), TYPE, (400, 477)),
        (framed([FIRST, SECOND])[:-6], TYPE, (400, 477)),
        (framed([FIRST, b"no header at all"]), TYPE, (400, 477)),
        (framed([SECOND, FIRST]), TYPE, (400, 470)),
        (framed([FIRST, FIRST]), TYPE, (400, 470)),
        (framed([part("ParameterRequest", "text/plain", b"{}"), SECOND]), TYPE, (400, 470)),
        (framed([part("Parameters", "application/json", b"{}"), SECOND]), TYPE, (400, 470)),
        (framed([FIRST, part("MessagePayload", "application/xml", b"x")]), TYPE, (400, 470)),
        (
            framed(
                [
                    FIRST,
                    part(
                        "MessagePayload",
                        "application/octet-stream",
                        b"eA==",
                        "Content-Transfer-Encoding: base64\r\n",
                    ),
                ]
            ),
            TYPE,
            (400, 470),
        ),
        (framed(two_parts(b"not json", b"x")), TYPE, (400, 470)),
        (framed(two_parts(b"\xff\xfe", b"x")), TYPE, (400, 470)),
        (framed(two_parts(b"[1]", b"x")), TYPE, (400, 470)),
        (framed(two_parts(b"[" * 100_000, b"x")), TYPE, (400, 470)),
        (framed(two_parts(GOOD, b"")), TYPE, (400, 453)),
    ],
)
def test_wrong_framing_is_refused_with_its_code(
    body: bytes, content_type: str, expected: tuple[int, int]
) -> None:
    assert _refused(body, content_type) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"documentName": None}, (400, 400)),
        ({"documentName": ""}, (400, 400)),
        ({"documentName": "D" * 101}, (400, 400)),
        ({"documentName": 7}, (400, 400)),
        ({"fromLogicalId": None}, (400, 419)),
        ({"fromLogicalId": "acme.orders.1"}, (400, 419)),
        ({"toLogicalId": "default"}, (400, 400)),
        ({"messageId": "m" * 251}, (400, 400)),
        ({"messageId": ""}, (400, 400)),
        ({"accountingEntity": "a" * 23}, (400, 400)),
        ({"location": "a" * 23}, (400, 400)),
        ({"revisionId": "a" * 23}, (400, 400)),
        ({"documentId": "a" * 101}, (400, 400)),
        ({"batchId": "a" * 251}, (400, 400)),
        ({"variationId": "1"}, (400, 400)),
        ({"variationId": True}, (400, 400)),
        ({"variationId": 2**63}, (400, 400)),
        ({"batchSize": -1}, (400, 400)),
        ({"batchAbortIndicator": "true"}, (400, 400)),
        ({"custom_No-Dash": "x"}, (400, 400)),
        ({"custom_" + "n" * 251: "x"}, (400, 400)),
        ({"custom_Number": 5}, (400, 400)),
        ({"characterSet": "latin-1"}, (400, 400)),
        ({"encoding": "GZIP"}, (400, 450)),
        ({"encoding": 5}, (400, 450)),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_code(
    change: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert _with(**change) == expected


def test_a_null_is_refused() -> None:
    assert _refused(framed(two_parts(json.dumps(GOOD | {"location": None}).encode(), b"x"))) == (400, 400)


@pytest.mark.parametrize(
    "change",
    [
        {"documentName": "D" * 100},
        {"documentName": "My_PurchaseOrder_JSON"},
        {"messageId": None},
        {"messageId": "m" * 250},
        {"toLogicalId": None},
        {"variationId": 2**63 - 1},
        {"variationId": 0},
        {"accountingEntity": "a" * 22, "location": "b" * 22, "revisionId": "c" * 22, "documentId": "d" * 100},
        {"batchId": "b" * 250, "batchSequence": 1, "batchSize": 2, "batchRevision": 0},
        {"batchAbortIndicator": False},
        {"custom_Region": "EMEA"},
        {"instances": 3, "source": ["x"], "aFieldNobodyKnows": {}},
        {"encoding": None},
        {"characterSet": "utf-8"},
    ],
)
def test_values_at_the_limits_are_accepted(change: dict[str, Any]) -> None:
    assert _with(**change) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"<plain/>",
        zlib.compress(b"document")[2:-4],
        zlib.compress(b"document")[:-1],
        zlib.compress(b"document") + b"more",
        b"\x78\x9cnonsense",
        zlib.compress(b"document")[:-4] + b"\x00\x00\x00\x00",
    ],
    ids=["plain", "raw deflate", "cut short", "something after it", "no stream", "wrong checksum"],
)
def test_a_payload_that_is_not_in_zlib_format_is_refused_with_450(payload: bytes) -> None:
    assert _with(payload, encoding="DEFLATE") == (400, 450)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_zlib_of_every_level_is_inflated(level: int) -> None:
    document = b"<document/>" * 500
    body = framed(two_parts(GOOD | {"encoding": "DEFLATE"}, zlib.compress(document, level)))
    assert read_message(TYPE, body, LIMIT).document == document


def test_a_zip_bomb_is_refused_before_it_is_inflated() -> None:
    bomb = zlib.compress(b"\x00" * 50_000_000)
    assert len(bomb) < LIMIT
    assert _with(bomb, encoding="DEFLATE") == (413, 413)


def test_a_payload_above_the_limit_is_refused_with_413() -> None:
    assert _with(b"x" * LIMIT) is None
    assert _with(b"x" * (LIMIT + 1)) == (413, 413)


async def test_a_refusal_reaches_the_client_as_status_code_and_text(acme: IonClient) -> None:
    answer = await acme.post(location="x" * 23)
    assert (answer.status, answer.json) == (
        400,
        {"status": "FAIL", "code": 400, "errors": ["location must be a text of 1 to 22 characters"]},
    )
    assert acme.sandbox.messages() == []
