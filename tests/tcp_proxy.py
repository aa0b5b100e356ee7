"""A proxy that stands before a database, a broker or a mail server and does to its connections what a network does."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue

CHUNK = 65_536


class TcpProxy:
    """
    Passes bytes between its clients and ``upstream``, until told otherwise.

    ``cuts`` counts the connections that were cut, ``dropped`` the answers that were thrown away, and ``turns`` how
    often a client spoke after it had heard something: round trips, whatever travelled together in each. What is sent
    arrives ``delay`` seconds later, each way.
    """

    def __init__(self, upstream: tuple[str, int], listener: socket.socket | None = None, *, delay: float = 0.0) -> None:
        self.upstream = upstream
        self.delay = delay
        self.cuts = 0
        self.dropped = 0
        self.turns = 0
        self._passing = threading.Event()
        self._passing.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._drop_after: bytes | None = None
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    # --- What a network does ---

    def cut(self) -> int:
        """Break every connection off; return how many there were. New ones are let through."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _reset(*pair)
        self.cuts += len(pairs)
        return len(pairs)

    def refuse(self) -> None:
        """Break every connection off and take none until :meth:`let_through`."""
        self._refusing = True
        self.cut()

    def hang(self) -> None:
        """Keep every connection open and pass nothing on, either way, until :meth:`let_through`."""
        self._passing.clear()

    def let_through(self) -> None:
        """Be a good network again."""
        self._refusing = False
        self._passing.set()

    def drop_answer_to(self, request: bytes) -> None:
        """Pass on the next ``request``, which contains these bytes, throw its answer away and break off."""
        self._drop_after = request

    def close(self) -> None:
        self._listener.close()
        self.let_through()
        self.cut()

    # --- The passing ---

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # Closed.
            if self._refusing:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self.upstream, timeout=5)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            pair = (client, server)
            for each in pair:  # Otherwise what follows a small packet waits 40 ms for its acknowledgement.
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add(pair)
            talk = Talk()
            for source, sink, from_client in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(pair, source, sink, talk, from_client), daemon=True).start()

    def _pump(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        talk: "Talk",
        from_client: bool,
    ) -> None:
        with suppress(OSError):
            for data in self._arriving(source):
                self._passing.wait()
                if not from_client and talk.is_to_be_lost:
                    self.dropped += 1
                    break
                if from_client and self._is_to_be_lost(data):
                    talk.is_to_be_lost = True
                self._count(talk, from_client=from_client)
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        _reset(*pair)

    def _arriving(self, source: socket.socket) -> Iterator[bytes]:
        """Yield what is read from a socket, each piece after the delay, however much is on its way."""
        if not self.delay:
            while data := source.recv(CHUNK):
                yield data
            return
        on_its_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

        def read() -> None:
            data = b"-"
            while data:
                try:
                    data = source.recv(CHUNK)
                except OSError:
                    data = b""
                on_its_way.put((time.monotonic() + self.delay, data))

        threading.Thread(target=read, daemon=True).start()
        while True:
            at, data = on_its_way.get()
            time.sleep(max(0.0, at - time.monotonic()))
            if not data:
                return
            yield data

    def _count(self, talk: "Talk", *, from_client: bool) -> None:
        with self._lock:
            if from_client and talk.server_spoke_last:
                self.turns += 1
            talk.server_spoke_last = not from_client

    def _is_to_be_lost(self, data: bytes) -> bool:
        with self._lock:
            if self._drop_after is None or self._drop_after not in data:
                return False
            self._drop_after = None
            return True


@dataclass
class Talk:
    """What a connection's two directions know of each other."""

    server_spoke_last: bool = True
    is_to_be_lost: bool = False


def _reset(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def tcp_proxy(host: str, port: int, listener: socket.socket | None = None, *, delay: float = 0.0) -> Iterator[TcpProxy]:
    """Run a proxy before ``host:port`` as long as the block lasts, by default at a port of its own."""
    proxy = TcpProxy((host, port), listener, delay=delay)
    try:
        yield proxy
    finally:
        proxy.close()
