"""Post prepared bodies in a bare aiohttp and uvloop loop: the baseline of the benchmark.

python bare_loop.py SERVER_URL COUNT SIZE IN_FLIGHT
"""

import asyncio
import sys
import uuid

import aiohttp
import uvloop
from yarl import URL

_BOUNDARY = "bare-loop-0123456789abcdef"


def body(size: int) -> bytes:
    """Return a two-part body with a payload of `size` bytes, like the relay's."""
    parameters = (
        '{"documentName":"Sync.SalesOrder","fromLogicalId":"lid://bench.orders.1","toLogicalId":"lid://default",'
        f'"messageId":"{uuid.uuid4().hex}","encoding":"NONE","characterSet":"UTF-8"}}'
    )
    return (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="ParameterRequest"\r\n'
        f"Content-Type: application/json\r\n\r\n{parameters}\r\n"
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="MessagePayload"\r\n'
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"{'x' * size}\r\n--{_BOUNDARY}--\r\n"
    ).encode()


async def post_all(server: str, bodies: list[bytes], in_flight: int) -> None:
    """Post every body once, `in_flight` at a time."""
    headers = {
        "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
        "Authorization": "Bearer t",
        "X-TenantId": "BENCH",
        "Accept": "application/json",
    }
    url = URL(f"{server}/api/v3/multipartMessage", encoded=True)
    remaining = iter(bodies)
    connector = aiohttp.TCPConnector(limit=in_flight)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, auto_decompress=False) as session:

        async def post_next() -> None:
            for one in remaining:
                async with session.post(url, data=one, headers=headers) as response:
                    await response.read()

        await asyncio.gather(*(post_next() for _ in range(in_flight)))


if __name__ == "__main__":
    where, count, payload, width = sys.argv[1:]
    uvloop.run(post_all(where, [body(int(payload)) for _ in range(int(count))], int(width)))
