"""onnxruntime-web: fetched by npm, known by its hash, refused in one sentence."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile

import pytest

from dnnlib.errors import UserError
from explorer import web_runtime


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive that stands for the real one, whose hash is expected instead."""
    path = tmp_path / "given.tgz"
    with tarfile.open(path, "w:gz") as file:
        for name in (*web_runtime.FILES, "README.md"):
            data = f"the content of {name}".encode()
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    digest = hashlib.sha512(path.read_bytes()).digest()
    monkeypatch.setattr(web_runtime, "SHA512", base64.b64encode(digest).decode())
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "eidgan" / web_runtime.ARCHIVE


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Make a script the npm of this process."""

    def install(*lines):
        script = tmp_path / "npm"
        script.write_text("\n".join(["#!/bin/sh", *lines]))
        script.chmod(0o755)
        monkeypatch.setattr(web_runtime.shutil, "which", lambda name: str(script))

    return install


def test_npm_fetches_once_and_the_cache_serves_afterwards(archive, cache, npm, tmp_path):
    # npm pack --silent --pack-destination FOLDER PACKAGE
    npm(f'echo "$5" >> {tmp_path}/calls', f'cp {archive} "$4/{web_runtime.ARCHIVE}"')
    assert web_runtime.require_archive() == cache
    assert web_runtime.require_archive() == cache
    assert (tmp_path / "calls").read_text().split() == [web_runtime.PACKAGE]
    assert cache.read_bytes() == archive.read_bytes()
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_only_the_needed_files_are_unpacked(archive, tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    web_runtime.unpack(web_runtime.require_archive(archive), folder)
    assert {path.name for path in folder.iterdir()} == set(web_runtime.FILES)
    name = web_runtime.FILES[0]
    assert (folder / name).read_text() == f"the content of {name}"


def test_other_bytes_and_a_missing_network_are_one_sentence(
    archive, cache, npm, tmp_path, monkeypatch
):
    other = tmp_path / "other.tgz"
    other.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"other.tgz: is not .*\(SHA-512\); give another file"):
        web_runtime.require_archive(other)
    with pytest.raises(UserError, match="absent.tgz: cannot be read"):
        web_runtime.require_archive(tmp_path / "absent.tgz")
    npm("echo 'npm error code ENOTFOUND' >&2", "exit 1")
    with pytest.raises(UserError, match="could not be fetched .npm error code ENOTFOUND.*npm pack"):
        web_runtime.require_archive()
    npm("exit 3")
    with pytest.raises(UserError, match="npm ends with 3"):
        web_runtime.require_archive()
    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="npm is not installed here; .*--runtime FILE") as refused:
        web_runtime.require_archive()
    assert f"put the file into {cache.parent} (" in str(refused.value)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(b"half of it")
    with pytest.raises(UserError, match="delete it, then run the command again"):
        web_runtime.require_archive()


def test_an_npm_that_hangs_is_given_up(archive, npm, monkeypatch):
    npm("exec sleep 60")
    monkeypatch.setattr(web_runtime, "TIMEOUT_S", 0.2)
    with pytest.raises(UserError, match="timed out"):
        web_runtime.require_archive()
