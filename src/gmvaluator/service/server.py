"""A listening process: a socket is taken first, then the service is started behind it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from gmvaluator.errors import InputError, MissingPackageError
from gmvaluator.service.guard import LOOPBACK, MOST_HEAD
from gmvaluator.versions import how_to_install


def check_exposure(host: str, token: str | None) -> None:
    """Refuse to listen where others can call, without a token.

    Raises:
        InputError: the host is not this machine alone, and no token is given.
    """
    if host not in LOOPBACK and not token:
        raise InputError(
            f"--host {host} lets other machines call the service; pass --token TOKEN, or set "
            "$GMVALUATOR_TOKEN"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the port is in use, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
        taken.listen(512)
    except OSError as error:
        taken.close()
        raise InputError(
            f"port {port} of {host} cannot be listened at ({error.strerror or error}); pass "
            "another --port, or --port 0 for any free one"
        ) from error
    return taken


def serve(config: Any, taken: socket.socket, *, proxy: bool = False) -> None:
    """Serve until the process is told to end.

    Args:
        config: `gmvaluator.service.app.Config`.
        taken: the socket; it is closed in the end.
        proxy: a reverse proxy on this machine tells the addresses of clients (X-Forwarded-For).

    Raises:
        GMValuatorError: a folder cannot be served.
    """
    from dataclasses import replace

    import uvicorn

    from gmvaluator.service.app import create_app

    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    with taken:
        app = create_app(replace(config, on_failure=fail))
        settings = uvicorn.Config(
            app,
            http=protocol(config.limits.header_seconds),
            ws="none",
            log_config=None,
            access_log=False,
            h11_max_incomplete_event_size=MOST_HEAD,
            server_header=False,
            proxy_headers=proxy,
            forwarded_allow_ips="127.0.0.1,::1",
            limit_concurrency=config.limits.connections,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=10,
        )
        server = uvicorn.Server(settings)
        server.run(sockets=[taken])
    if failures:
        raise failures[0]


def protocol(header_seconds: float) -> Any:
    """uvicorn's reader of requests, which closes connections whose heads do not come in time."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Timed(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # the head of a request is there once the other side is beyond idle
            if self.conn.their_state is not h11.IDLE and self._timer is not None:
                self._timer.cancel()
                self._timer = None
            elif self.conn.their_state is h11.IDLE and self._timer is None:
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _watch(self) -> None:
            self._timer = self.loop.call_later(header_seconds, self._close)

        def _close(self) -> None:
            self._timer = None
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

    return Timed


def require_packages() -> None:
    """Raise MissingPackageError unless the packages of the extra `serve` are there."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"serve needs {error.name}, which is not installed: {how_to_install('serve')}"
        ) from error
