"""fetch(): sha256, resume after a cut, whole or absent, and one line without a network."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dnnlib.download import checked, fetch
from dnnlib.errors import UserError

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """`ranges` lists what was asked for, `cut` breaks the connection early."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ranges, self.resumable, self.url = [], True, ""
        self.cut = None


@pytest.fixture
def server():
    """A `Server` of `CONTENT` at http://127.0.0.1:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            http.ranges.append(self.headers.get("Range"))
            start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and http.resumable else 0
            if start >= len(CONTENT):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start:http.cut])

        def log_message(self, *_):
            pass

    http = Server(("127.0.0.1", 0), Handler)
    http.url = f"http://127.0.0.1:{http.server_address[1]}/weights.pth"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("sha", [SHA, SHA[:8]])
def test_downloads_once(server, tmp_path, sha):
    target = tmp_path / "deep" / "weights.pth"
    assert fetch(server.url, target, sha) == target and target.read_bytes() == CONTENT
    assert fetch(server.url, target, sha) == target and len(server.ranges) == 1
    assert [path.name for path in target.parent.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("resumable", [True, False])
def test_a_cut_download_goes_on(server, tmp_path, resumable):
    server.cut = 3000
    with pytest.raises(UserError, match="weights.pth is missing and http.*copy it to"):
        fetch(server.url, tmp_path / "weights.pth", SHA)
    assert not (tmp_path / "weights.pth").exists()
    server.cut, server.resumable = None, resumable
    assert fetch(server.url, tmp_path / "weights.pth", SHA).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000-"]


def test_a_whole_part_of_the_wrong_length_starts_over(server, tmp_path):
    (tmp_path / ".weights.pth.part").write_bytes(CONTENT + b"more")
    assert fetch(server.url, tmp_path / "weights.pth", SHA).read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match="gave another file than expected"):
        fetch(server.url, tmp_path / "weights.pth", "0" * 64)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "weights.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match="weights.pth is damaged or another file"):
        fetch(server.url, tmp_path / "weights.pth", SHA)


def test_without_a_network_one_line_says_what_to_copy(tmp_path):
    with pytest.raises(UserError, match="https://example.invalid/w.pth cannot be reached .*copy it to") as caught:
        fetch("https://example.invalid/w.pth", tmp_path / "w.pth", SHA)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_checked_names_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        checked(tmp_path / "x", SHA)
