"""Whom a request is counted for.

A key is a function of the request: of the ASGI scope in an ASGI middleware, of the connection in FastAPI, of the
request in aiohttp. It returns a str, or None if it cannot tell; what nobody is known for shares one budget, apart from
all others. It may be a coroutine function. What is here works with all three.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from inspect import isawaitable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, TypeAlias

Key: TypeAlias = Callable[[Any], str | Awaitable[str | None] | None]
Address: TypeAlias = IPv4Address | IPv6Address

LONGEST = 64
"""Characters of a key that is stored as it is; longer ones are stored as a digest."""
NOBODY = "#nobody"
"""The key of requests that no key is known for. No other key can be it: what begins with # is stored as a digest."""
UNIX = "unix"
"""Stands for the peer of a Unix socket, which has no address, among trusted proxies."""
_LONGEST_ADDRESS = 45


def client_address(connection: Any) -> str | None:
    """Return the address of the peer: IPv4 whole, IPv6 by its /64, which is what one customer has.

    None if the peer has none, as on a Unix socket. Behind a proxy this is the proxy: use `forwarded`.
    """
    peer = _peer(connection)
    return peer if peer is None or ":" not in peer else _site(peer)


def forwarded(trusted: Iterable[str], *, header: str = "x-forwarded-for") -> Key:
    """Return a key that is the address for which stated proxies forward, by `client_address`' rule.

    A proxy appends the address of its peer to the field, so it is read from its end, for as long as a proxy of these
    speaks. What others wrote into it counts for nothing.

    Args:
        trusted: addresses and networks of the proxies, such as ``10.0.0.0/8``, and ``unix`` for a Unix socket.
        header: of the addresses, separated by commas; or of a single one, such as ``cf-connecting-ip``.

    Raises:
        ValueError: one of them is not an address or network.
    """
    known = set(trusted)
    networks = [ip_network(text) for text in known - {UNIX}]
    field = header.lower().encode()

    def is_proxy(text: str | None) -> bool:
        if text is None:
            return UNIX in known
        address = _parsed(text)
        return address is not None and any(address in network for network in networks)

    def forwarded_address(connection: Any) -> str | None:
        hop = _peer(connection)
        hops = b",".join(_values(connection, field)).decode("latin-1").split(",")
        while is_proxy(hop) and hops:
            said = _without_port(hops.pop().strip())
            if _parsed(said) is None:
                break
            hop = said
        return None if hop is None else _site(hop)

    return forwarded_address


def header(name: str) -> Key:
    """Return a key that is the value of a header field, or None if it is missing or empty."""
    field = name.lower().encode()

    def value(connection: Any) -> str | None:
        return next((found.decode("latin-1") for found in _values(connection, field)), None) or None

    return value


def api_key(name: str = "authorization") -> Key:
    """Return a key that is a digest of a secret in a header field, so that no store and no log ever holds it.

    None if the field is missing or empty. It does not say whether the secret is valid: strangers may invent any.
    """
    secret = header(name)

    def digest(connection: Any) -> str | None:
        found = secret(connection)
        return None if found is None else _digest(str(found))

    return digest


def user(attribute: str = "display_name") -> Key:
    """Return a key that is an attribute of the authenticated user of the connection, or None if nobody is.

    Args:
        attribute: of ``scope["user"]``, as Starlette's and Litestar's authentication put it there; it must be unique.

    The key raises LookupError if no user was put there, not even an anonymous one.
    """

    def identity(connection: Any) -> str | None:
        found = connection.get("user")
        if found is None:
            raise LookupError('no "user" in the scope: put the authentication outside of the rate limit')
        return str(getattr(found, attribute)) if getattr(found, "is_authenticated", True) else None

    return identity


def first_of(*keys: Key) -> Key:
    """Return a key that is the first of several that is known: the API key, say, or else the address.

    What one of them says is never taken for what another one says.
    """

    async def first(connection: Any) -> str | None:
        for number, key in enumerate(keys):
            found = key(connection)
            known = await found if isawaitable(found) else found
            if known is not None:
                return f"{number}:{known}"
        return None

    return first


def bounded(key: str | None) -> str:
    """Return what a key is stored as: itself, or a digest of it if it is long or no proper text.

    Raises:
        TypeError: it is neither a str nor None.
    """
    if key is None:
        return NOBODY
    if not isinstance(key, str):
        raise TypeError(f"a key function must return a str or None, not {key!r}")
    return key if len(key) <= LONGEST and _is_plain(key) else _digest(key)


def _is_plain(key: str) -> bool:
    return key[:1] != "#" and (key.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in key))


def _digest(key: str) -> str:
    return "#" + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _peer(connection: Any) -> str | None:
    """Return the peer's address as it stands in an ASGI scope, a Starlette connection or an aiohttp request."""
    client: Sequence[str] | None = connection.get("client")
    return (client[0] if client else getattr(connection, "remote", None)) or None


def _values(connection: Any, field: bytes) -> list[bytes]:
    """Return all values of a header field, whose name is in lower case."""
    raw: Iterable[tuple[bytes, bytes]] = getattr(connection, "raw_headers", None) or connection.get("headers") or ()
    return [value for name, value in raw if name.lower() == field]


def _site(text: str) -> str:
    address = _parsed(text)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return text


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _parsed(text: str) -> Address | None:
    """Return an address, or None if it is none."""
    return _read(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _read(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
