"""Which relay process sent what, from the simulator's record.

Each process spells the tenant's name in ION's path its own way, in capitals and small letters, which ION takes
for the same.
"""

from collections.abc import Iterable

from relay.sandbox import Request, Sandbox

MARK = "OUTBOUND"
"""The end of each tenant's name; a process' number is written in its letters' case."""


def spelling(sandbox: Sandbox, tenants: Iterable[str], number: int) -> dict[str, str]:
    """The settings with which the process of this number writes the tenants its own way."""
    return {
        f"RELAY_TENANTS__{tenant}__ION_URL": sandbox.base_url(tenant).replace(tenant, spelled(tenant, number))
        for tenant in tenants
    }


def spelled(tenant: str, number: int) -> str:
    """The tenant's name as the process of this number writes it."""
    letters = (letter.lower() if number >> place & 1 else letter for place, letter in enumerate(MARK))
    return tenant.removesuffix(MARK) + "".join(letters)


def sender(request: Request) -> int:
    """The number of the process that sent it."""
    mark = request.target.split("/")[1][-len(MARK) :]
    return sum(letter.islower() << place for place, letter in enumerate(mark))


def together(posts: list[Request]) -> list[tuple[Request, Request]]:
    """A tenant's posts of two processes of which one began before the other had ended."""
    found: list[tuple[Request, Request]] = []
    latest: dict[int, Request] = {}
    """By sender, the post that ends last of those that began before."""
    for post in sorted(posts, key=lambda post: post.began):
        mine = sender(post)
        found += [(other, post) for who, other in latest.items() if who != mine and _end(other) > post.began]
        latest[mine] = max(latest.get(mine, post), post, key=_end)
    return found


def _end(post: Request) -> float:
    return post.began + (post.seconds or 0.0)
