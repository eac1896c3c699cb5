"""fetch(): the hash is checked, writes are atomic, errors are one line, no file is overwritten."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dnnlib.errors import UserError
from networks.pretrained import download
from networks.pretrained.download import checked, fetch

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """An HTTP server that serves `CONTENT`.

    `requests` counts the requests. `cut` closes the connection early. `meanwhile` is called before
    the answer.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.requests, self.url, self.cut = 0, "", None
        self.meanwhile = lambda: None


@pytest.fixture
def server():
    """A `Server` of `CONTENT` at http://127.0.0.1:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.requests += 1
            http.meanwhile()
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: http.cut])

        def log_message(self, *_):
            pass

    http = Server(("127.0.0.1", 0), Handler)
    http.url = f"http://127.0.0.1:{http.server_address[1]}/weights.pth"
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("sha", [SHA, SHA[:8]])
def test_downloads_once(server, tmp_path, sha):
    target = tmp_path / "deep" / "weights.pth"
    assert fetch(server.url, target, sha) == target and target.read_bytes() == CONTENT
    assert fetch(server.url, target, sha) == target and server.requests == 1
    assert [path.name for path in target.parent.iterdir()] == ["weights.pth"]
    assert socket.getdefaulttimeout() is None


def test_a_cut_download_leaves_nothing_and_can_be_tried_again(server, tmp_path):
    server.cut = 3000
    with pytest.raises(UserError, match="or a part of it .*; try again, or .*copy it to"):
        fetch(server.url, tmp_path / "weights.pth", SHA)
    assert list(tmp_path.iterdir()) == []
    server.cut = None
    assert fetch(server.url, tmp_path / "weights.pth", SHA).read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match="gave another file than expected"):
        fetch(server.url, tmp_path / "weights.pth", "0" * 64)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "weights.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match="weights.pth is damaged or another file"):
        fetch(server.url, tmp_path / "weights.pth", SHA)
    assert (tmp_path / "weights.pth").read_bytes() == b"damaged"


@pytest.mark.parametrize("content", [CONTENT, b"a file of somebody else"])
def test_a_file_that_appears_meanwhile_is_not_overwritten(server, tmp_path, content):
    """Another process may fetch the same file during the download; its file is accepted."""
    target = tmp_path / "weights.pth"
    server.meanwhile = lambda: target.write_bytes(content)
    if content == CONTENT:
        fetch(server.url, target, SHA)
    else:
        with pytest.raises(UserError, match="weights.pth is another file, so it is left as it is"):
            fetch(server.url, target, SHA)
    assert target.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == [target.name]


def test_without_a_network_one_line_says_what_to_copy(tmp_path):
    words = "https://example.invalid/w.pth cannot be reached .*copy it to"
    with pytest.raises(UserError, match=words) as caught:
        fetch("https://example.invalid/w.pth", tmp_path / "w.pth", SHA)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/w.pth"
        with pytest.raises(UserError, match="cannot be reached .*timed out"):
            fetch(url, tmp_path / "w.pth", SHA)
    assert list(tmp_path.iterdir()) == [] and socket.getdefaulttimeout() is None


def test_checked_names_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        checked(tmp_path / "x", SHA)
