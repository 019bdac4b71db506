"""What each request must pass before an address of the API sees it, and what each answer carries.

The guard is the outermost layer: it checks the name of the host, the origin, the token and the rate
of the client, bounds the body in size and time, and adds the headers of safety. It writes one line
of the log for each request, without names, ids or content of pictures.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from gmvaluator.service.limits import MIB, Limits
from gmvaluator.service.metrics import Metrics
from gmvaluator.service.problems import MEDIA_TYPE, Problem, wait

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOG = logging.getLogger("gmvaluator.service")
SMALL_BODY = 64 * 1024
MOST_HEAD = 16 * 1024
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
WILDCARDS = frozenset(("0.0.0.0", "::"))
DRAINED_BYTES = 256 * MIB
"""Bytes of a refused body that are read and dropped, so that the client reads the answer."""
DRAINED_SECONDS = 5.0
MOST_CLIENTS = 10_000
BODY = "gmvaluator.body"
"""Entry of the scope of a request: its `Body`."""
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class Rates:
    """A bucket of requests for each client, which fills at a rate.

    Args:
        rate: requests a second.
        burst: requests at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str, now: float) -> float:
        """Seconds until the client may send its request; 0: it may now."""
        left, then = self._left.get(client, (float(self._burst), now))
        left = min(self._burst, left + self._rate * (now - then))
        if len(self._left) >= MOST_CLIENTS and client not in self._left:
            # those that would be full again by now
            full = self._burst / self._rate
            self._left = {key: kept for key, kept in self._left.items() if now - kept[1] < full}
            if len(self._left) >= MOST_CLIENTS:
                self._left.clear()
        if left < 1:
            self._left[client] = (left, now)
            return (1 - left) / self._rate
        self._left[client] = (left - 1, now)
        return 0.0


class Guard:
    """An ASGI application around another one.

    Args:
        app: the application.
        limits: of bodies and rates.
        metrics: that count requests.
        ready: whether the addresses below /v1 can answer.
        token: that clients must send; None: none is wanted.
        host: that the service listens at.
        allowed_hosts: further names that clients may call it by, such as that of a proxy.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        ready: Callable[[], bool],
        *,
        token: str | None = None,
        host: str = "127.0.0.1",
        allowed_hosts: tuple[str, ...] = (),
    ) -> None:
        self.app = app
        self._limits = limits
        self._metrics = metrics
        self._ready = ready
        self._token = None if token is None else token.encode()
        self._any_address = host in WILDCARDS
        names = {*LOOPBACK, host.lower(), *(name.lower() for name in allowed_hosts)}
        self._hosts = names - WILDCARDS
        self._rates = Rates(limits.rate, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1003})
                return
            await self.app(scope, receive, send)
            return
        started, status = monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in HEADERS}
                kept = [pair for pair in message["headers"] if pair[0].lower() not in own]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        body = scope[BODY] = Body(scope, receive, *self._limits_of(scope))
        try:
            self._admit(scope)
            await self.app(scope, body, answer)
        except Problem as problem:
            await body.drain()
            await send_problem(problem, answer)
        except Exception:
            # the application has answered and logged what it did not expect
            if not status:
                raise
        finally:
            address = getattr(scope.get("route"), "path", "other")
            seconds = monotonic() - started
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(address, method, str(status)).inc()
            self._metrics.seconds.labels(address).observe(seconds)
            LOG.info("%s %s %d %.0f ms %s", method, address, status, 1000 * seconds, client(scope))

    def _admit(self, scope: Scope) -> None:
        """Raise the problem that a request has before its body is read."""
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size + len(scope.get("raw_path") or b"") > MOST_HEAD:
            raise Problem("head-too-large")
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._known(host):
            raise Problem("wrong-host")
        path = scope["path"]
        origin = headers.get(b"origin")
        foreign = origin is not None and not same_host(origin.decode("latin-1"), host)
        # browsers say where a request comes from; other programs do not
        foreign |= headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and (
            path.startswith("/v1/") or scope["method"] not in ("GET", "HEAD")
        )
        if foreign:
            raise Problem("wrong-origin")
        if seconds := self._rates.take(client(scope), monotonic()):
            raise wait("too-many-requests", seconds)
        if not (path.startswith("/v1/") or path in ("/v1", "/metrics")):
            return
        if self._token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self._token)
            if scheme.lower() != b"bearer" or not right:
                raise Problem("no-token", headers={"WWW-Authenticate": "Bearer"})
        if path != "/metrics" and not self._ready():
            raise wait("not-ready", 2)

    def _known(self, host: str) -> bool:
        """Whether the service answers under a Host: a foreign name may be a rebound one."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        # an address is no name that somebody could rebind
        return self._any_address and is_address(name)

    def _limits_of(self, scope: Scope) -> tuple[int, float]:
        """Largest body of a request in bytes, and the seconds in which it must come."""
        limits = self._limits
        if (scope["method"], scope["path"]) == ("POST", "/v1/match"):
            return limits.match_bytes, limits.match_seconds
        if (scope["method"], scope["path"]) == ("POST", "/v1/value"):
            return limits.job_bytes, limits.job_seconds
        return SMALL_BODY, limits.match_seconds


class Body:
    """The body of a request, within its limits of size and time.

    Args:
        scope: of the request.
        receive: gives its parts.
        most: bytes.
        seconds: until it must have come.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._ends = monotonic() + seconds
        self._size = 0
        headers = dict(scope["headers"])
        self._complete = not {b"content-length", b"transfer-encoding"} & headers.keys()
        declared = headers.get(b"content-length", b"")
        self._declared = int(declared) if declared.isdigit() else 0

    async def __call__(self) -> Message:
        """The next part of the body, then the end of the connection.

        Raises:
            Problem: the body is too large or too slow.
        """
        if self._complete:
            return await self._receive()
        if self._declared > self._most:
            raise too_large(self._most)
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._ends - monotonic()))
        except TimeoutError:
            self._complete = True
            raise Problem("too-slow", headers={"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._size > self._most:
            raise too_large(self._most)
        return message

    async def drain(self) -> None:
        """Read and drop what a client still sends, for a while, so that it reads the answer."""
        left, ends = DRAINED_BYTES, monotonic() + DRAINED_SECONDS
        while left > 0 and not self._complete:
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, ends - monotonic()))
            except TimeoutError:
                return
            left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)


METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))


def too_large(most: int) -> Problem:
    """The problem of a body beyond its limit."""
    return Problem("too-large", f"At most {most / MIB:g} MiB are taken.", limit=most)


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer a problem."""
    body = json.dumps(problem.as_json()).encode()
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
    }
    pairs = [
        (name.lower().encode(), value.encode())
        for name, value in {**headers, **problem.headers}.items()
    ]
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def client(scope: Scope) -> str:
    """The address of a client; of IPv6 the network of one customer."""
    address = scope["client"][0] if scope.get("client") else ""
    if ":" in address:
        try:
            return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
        except ValueError:
            return str(address)
    return str(address)


def same_host(origin: str, host: str) -> bool:
    """Whether an Origin is a page of the host itself."""
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
