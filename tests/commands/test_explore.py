"""explore.py as a process: the link, refusals in one line, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request

import pytest
from click.testing import CliRunner

import explore
from explorer.serving import link
from networks.shipped_networks import shipped_networks
from tests.commands.forked import start_command


def printed(command):
    """The first line that a started command prints."""
    while not (text := command.files[0].read_text()).endswith("\n"):
        assert command.process.is_alive(), command.files[1].read_text()
        time.sleep(0.02)
    return text.splitlines()[0]


@pytest.mark.slow
@pytest.mark.multi_process
def test_ctrl_c_leaves_at_once(network, tmp_path):
    words = ("--network", network, "--runs", tmp_path, "--port", 0, "--device", "cpu")
    command = start_command("explore.py", *words)
    try:
        line = printed(command)
        count = 1 + len(shipped_networks())
        assert line.startswith(f"{count} networks, on cpu. Open http://127.0.0.1:")
        address = line.split("Open ")[1]
        with urllib.request.urlopen(address + "options") as answer:
            name = json.load(answer)["networks"][0]
        body = json.dumps({"network": name, "prompt": "a red apple"}).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(address + "pictures", body, kind)
        with urllib.request.urlopen(request) as answer:
            picture = json.load(answer)["picture"]
        with socket.create_connection(("127.0.0.1", int(address.split(":")[2][:-1]))) as waiting:
            path = f"/download/{picture}.png?size=4096x4096"  # still being drawn when it ends
            waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            command.send_signal(signal.SIGINT)
            done = command.wait()
            assert done.returncode == 0 and done.stderr == ""
    finally:
        command.kill()


def test_mistakes_are_one_line(network, tmp_path, monkeypatch):
    # Without the networks of the repository, an empty folder of runs leaves nothing to show.
    monkeypatch.setattr("explorer.catalog.shipped_networks", dict)

    def refused(*arguments):
        done = CliRunner().invoke(explore.main, [str(argument) for argument in arguments])
        assert done.exit_code == 1
        (line,) = done.stderr.splitlines()
        return line

    assert f"--runs {tmp_path}: holds no network-snapshot-* folder" in refused("--runs", tmp_path)
    assert "none: is no folder" in refused("--runs", tmp_path / "none")
    assert "does not exist" in refused("--network", tmp_path / "none", "--runs", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot listen there" in refused(
            "--network", network, "--runs", tmp_path, "--port", port
        )
    assert "--host a..b --port 8000: cannot listen there (encoding with 'idna'" in refused(
        "--network", network, "--runs", tmp_path, "--host", "a..b"
    )


def test_links():
    assert link("127.0.0.1", 8000, None) == "http://127.0.0.1:8000/"
    assert link("::1", 8000, None) == "http://[::1]:8000/"
    assert link("0.0.0.0", 80, "abc") == f"http://{socket.gethostname()}:80/?token=abc"
