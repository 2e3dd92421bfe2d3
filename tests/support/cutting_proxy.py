"""A proxy before a PostgreSQL that cuts connections: the server did it, and its answer never arrives."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_CHUNK = 64 * 1024
_SECONDS = 30.0


class CuttingProxy:
    """Forwards all; a connection over which `cut_after` was sent ends once the server has answered that."""

    def __init__(self, url: str, *, cut_after: bytes, cuts: int, refusing: bool) -> None:
        """`cuts`: that many connections are cut; `refusing`: no other one is accepted after them."""
        self._parts = urlsplit(url)
        self._cut_after, self._cuts, self._refusing = cut_after, cuts, refusing
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def url(self) -> str:
        """Of the same database, through this proxy."""
        login = f"{self._parts.username}@" if self._parts.username else ""
        port: int = self._listener.getsockname()[1]
        return self._parts._replace(netloc=f"{login}127.0.0.1:{port}").geturl()

    @contextlib.contextmanager
    def running(self) -> Iterator["CuttingProxy"]:
        """While it accepts connections."""
        self._threads[0].start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for thread in self._threads:
                thread.join(_SECONDS)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refusing and self.cut >= self._cuts:
                    client.close()
                    continue
                server = socket.create_connection((self._parts.hostname, self._parts.port), _SECONDS)
                for work in (self._forward, self._return):
                    self._threads.append(threading.Thread(target=work, args=(client, server)))
                    self._threads[-1].start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sent := client.recv(_CHUNK):
                if self._cut_after in sent and self.cut < self._cuts:
                    self.cut += 1
                    client.shutdown(socket.SHUT_RDWR)  # nothing of the answer arrives any more
                server.sendall(sent)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _return(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            with contextlib.suppress(OSError):
                while answer := server.recv(_CHUNK):
                    with contextlib.suppress(OSError):
                        client.sendall(answer)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # closing it does not end the other thread's recv
