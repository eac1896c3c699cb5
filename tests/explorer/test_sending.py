"""Downloads that nobody reads: what they hold is bounded, and their connections end."""

from __future__ import annotations

import json
import socket
import threading
import time
from unittest import mock

import h11
import pytest
from uvicorn.server import ServerState

from explorer.bounded import Budget
from explorer.sending import PIECE, PatientProtocol
from explorer.serving import Server, listening, settings

SIDE = 1024
SIDE_BYTES = 3 * SIDE**2
FILE_BYTES = 24 << 20  # more than the kernel buffers for a client of this machine
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_S = 3.0  # longer than a busy machine lets a client wait that reads


@pytest.fixture
def port(explorer, monkeypatch):
    """The port of a server in a thread. Its downloads are large, and a client may have two."""
    monkeypatch.setattr(PatientProtocol, "patience_s", PATIENCE_S)
    monkeypatch.setattr(explorer.painter, "download", lambda *_: bytes(FILE_BYTES))
    explorer.in_flight = Budget(4 * SIDE_BYTES)
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = Server(settings(explorer, None, port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield port
        server.should_exit = True
        thread.join()


def asked(port, line, body=""):
    """A connection to the server with this request in it."""
    connection = socket.socket()
    connection.settimeout(30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)  # as across a network
    connection.connect(("127.0.0.1", port))
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    connection.sendall(f"{head}{length}{body}".encode())
    return connection


def read(connection):
    """The status and the body of the answer, read to its end."""
    data = bytearray()
    with connection:
        while piece := connection.recv(1 << 20):
            data += piece
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def download_line(port, state):
    """The first line of a request for a download."""
    _, answer = read(asked(port, "POST /pictures", json.dumps(state)))
    return f"GET /download/{json.loads(answer)['picture']}.png?size={SIDE}x{SIDE}"


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_downloads_that_nobody_reads(port, explorer, state):
    line = download_line(port, state)
    deaf = [asked(port, line) for _ in range(2)]
    until(lambda: explorer.in_flight.num_bytes == 2 * SIDE_BYTES)

    status, answer = read(asked(port, line))
    assert status == 503 and "other downloads are being sent" in json.loads(answer)["error"]
    until(lambda: explorer.in_flight.num_bytes == 0)
    status, answer = read(asked(port, line))
    assert status == 200 and answer == bytes(FILE_BYTES)
    until(lambda: explorer.in_flight.num_bytes == 0)
    for connection in deaf:  # they were cut off
        status, answer = read(connection)
        assert status == 200 and len(answer) < FILE_BYTES


@pytest.mark.slow
def test_a_client_that_reads_slowly_is_not_cut_off(port, explorer, state):
    data, started = bytearray(), time.monotonic()
    with asked(port, download_line(port, state)) as connection:
        ended = False
        while not ended:
            time.sleep(PATIENCE_S / 3)
            wanted = len(data) + FILE_BYTES // 6
            while not ended and len(data) < wanted:
                piece = connection.recv(1 << 20)
                data += piece
                ended = not piece
    assert time.monotonic() - started > 1.5 * PATIENCE_S
    _, _, body = bytes(data).partition(b"\r\n\r\n")
    assert len(body) == FILE_BYTES
    until(lambda: explorer.in_flight.num_bytes == 0)


class Timers:
    """The part of an event loop that starts timers and tasks. Nothing runs, and no time passes."""

    def __init__(self):
        self.started = []

    def call_later(self, seconds, callback):
        timer = mock.Mock()
        self.started.append((seconds, callback, timer))
        return timer

    def running(self, callback):
        """The seconds of the timers that will call this, in the order of their start."""
        return [
            seconds
            for seconds, called, timer in self.started
            if called == callback and not timer.cancel.called
        ]

    def create_task(self, task, **_):
        task.close()
        return mock.Mock()


def connected(explorer):
    """A connection that was just made: the protocol, its loop and its transport."""
    config = settings(explorer, None, 8000)
    config.load()
    loop, transport = Timers(), mock.Mock()
    transport.is_closing.return_value = False
    protocol = PatientProtocol(config, ServerState(), {}, loop)
    protocol.connection_made(transport)
    return protocol, loop, transport


def test_what_is_read_ends_the_wait_for_a_client(explorer):
    protocol, loop, transport = connected(explorer)
    transport.set_write_buffer_limits.assert_called_once_with(0)
    protocol.data_received(REQUEST)
    for _ in range(3):
        protocol.pause_writing()
        assert loop.running(transport.abort) == [PatientProtocol.patience_s]
        protocol.resume_writing()
        assert loop.running(transport.abort) == []
    protocol.pause_writing()
    protocol.connection_lost(None)
    assert loop.running(transport.abort) == []


def test_a_request_has_to_arrive_within_some_seconds(explorer):
    protocol, loop, transport = connected(explorer)
    wait = [PatientProtocol.request_s]
    assert loop.running(transport.abort) == wait
    for part in (REQUEST[:20], REQUEST[20:-2]):  # the head is not whole
        protocol.data_received(part)
        assert loop.running(transport.abort) == wait
    assert len(loop.started) == 1  # so a byte now and then does not help
    protocol.data_received(REQUEST[-2:])
    assert loop.running(transport.abort) == []

    protocol.conn.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    protocol.conn.send(h11.EndOfMessage())
    protocol.on_response_complete()
    assert loop.running(transport.abort) == []  # uvicorn's own timer is for idle connections
    assert loop.running(protocol.timeout_keep_alive_handler) == [10]
    protocol.data_received(b"POST")
    assert loop.running(protocol.timeout_keep_alive_handler) == []
    assert loop.running(transport.abort) == wait
    protocol.data_received(b" / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
    assert loop.running(transport.abort) == wait
    protocol.data_received(b"2")
    assert loop.running(transport.abort) == []


def test_a_lost_connection_leaves_no_timer(explorer):
    for parts in ([], [REQUEST[:8]], [REQUEST[:8], REQUEST[8:]]):
        protocol, loop, transport = connected(explorer)
        for part in parts:
            protocol.data_received(part)
        protocol.connection_lost(None)
        assert loop.running(transport.abort) == []


def test_a_client_that_leaves_while_its_download_is_drawn(port, explorer, state, monkeypatch):
    gate, entered = threading.Event(), threading.Event()

    def draw(*_):
        entered.set()
        gate.wait()
        return b""

    monkeypatch.setattr(explorer.painter, "download", draw)
    line = download_line(port, state)
    try:
        first = asked(port, line)
        assert entered.wait(30)
        second = asked(port, line)
        until(lambda: explorer.downloads.num_waiting() == 1)
        first.close()
        second.close()
        until(lambda: explorer.downloads.num_waiting() == 0)
        time.sleep(0.2)
        assert explorer.in_flight.num_bytes == SIDE_BYTES  # of the one that is still drawn
    finally:
        gate.set()
    until(lambda: explorer.in_flight.num_bytes == 0)


def test_a_download_that_fails_gives_its_bytes_back(client, explorer, state, monkeypatch):
    picture = client.post("/pictures", json=state).json()["picture"]
    address = f"/download/{picture}.png?size=8x8"
    assert client.get(address).status_code == 200 and explorer.in_flight.num_bytes == 0
    assert client.get(f"/download/{picture}.png?size=0x8").status_code == 400
    monkeypatch.setattr(explorer.painter, "download", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        client.get(address)
    assert explorer.in_flight.num_bytes == 0
