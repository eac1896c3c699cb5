"""A local stand-in for the HTTP API of the Hugging Face Hub: repositories with commits in memory.

It answers what the client huggingface_hub asks to create a repository, to commit files and to
download them: https://huggingface.co/docs/hub/api. All requests are kept in `requests`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubServer(ThreadingHTTPServer):
    """`repositories[name][revision]` is (commit id, {file name: bytes})."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = {}
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def commit(self, name, files, revision="main"):
        """Add files to a branch; the commit id names the content."""
        branches = self.repositories.setdefault(name, {})
        content = {**branches.get(revision, ("", {}))[1], **files}
        sha = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
        branches[revision] = branches[sha] = (sha, content)
        return sha


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        path = self.path.split("?")[0].strip("/")
        self.server.requests.append((self.command, path))
        match path.split("/"):
            case ["api", "models", user, name, "revision", revision]:
                found = self._find(f"{user}/{name}", revision)
                if found:
                    self._json(
                        {
                            "id": f"{user}/{name}",
                            "sha": found[0],
                            "private": False,
                            "tags": [],
                            "downloads": 0,
                            "likes": 0,
                            "siblings": [{"rfilename": file} for file in found[1]],
                        }
                    )
            case ["api", "models", user, name, "tree", revision, *_]:
                found = self._find(f"{user}/{name}", revision)
                if found:
                    self._json(
                        [
                            {"type": "file", "path": file, "size": len(data), "oid": _oid(data)}
                            for file, data in found[1].items()
                        ]
                    )
            case [user, name, "resolve", revision, file]:
                found = self._find(f"{user}/{name}", revision)
                if found and file in found[1]:
                    self._send(found[1][file], found[0], body)
                elif found:
                    self._fail("EntryNotFound")
            case _:
                self._fail("")

    def do_POST(self):
        path = self.path.split("?")[0].strip("/")
        self.server.requests.append(("POST", path))
        data = self.rfile.read(int(self.headers["Content-Length"]))
        match path.split("/"):
            case ["api", "repos", "create"]:
                asked = json.loads(data)
                name = f"{asked.get('organization') or 'alice'}/{asked['name'].split('/')[-1]}"
                self.server.repositories.setdefault(name, {})
                self._json({"url": f"{self.server.url}/{name}", "id": name, "name": name})
            case ["api", "models", user, name, "branch", revision]:
                branches = self.server.repositories[f"{user}/{name}"]
                branches.setdefault(revision, branches.get("main", ("", {})))
                self._json({})
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", _]:
                self._json(
                    {
                        "files": [
                            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                            for file in json.loads(data)["files"]
                        ]
                    }
                )
            case ["api", "models", user, name, "commit", revision]:
                entries = [json.loads(line) for line in data.splitlines()]
                files = {
                    entry["value"]["path"]: base64.b64decode(entry["value"]["content"])
                    for entry in entries
                    if entry["key"] == "file"
                }
                sha = self.server.commit(f"{user}/{name}", files, revision)
                self._json(
                    {"commitUrl": f"{self.server.url}/{user}/{name}/commit/{sha}", "commitOid": sha}
                )
            case _:
                self._fail("")

    def _find(self, name, revision):
        branches = self.server.repositories.get(name)
        if branches is None:
            self._fail("RepoNotFound")
        elif revision not in branches:
            self._fail("RevisionNotFound")
        else:
            return branches[revision]

    def _send(self, data, sha, body):
        self.send_response(200)
        self.send_header("X-Repo-Commit", sha)
        self.send_header("ETag", f'"{_oid(data)}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _json(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _oid(data):
    """The name that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def running():
    """A server on a free port of this machine; it ends with the block."""
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
