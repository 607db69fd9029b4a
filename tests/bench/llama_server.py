"""llama.cpp's own server, built from the source that the locked llama-cpp-python carries."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import bootstrap

_CMAKE: Final = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)


def build() -> Path:
    """Return the program, built where it is not in the cache yet (20 minutes on two cores)."""
    digest = hashlib.sha256("\n".join(_CMAKE).encode()).hexdigest()[:8]
    program = bootstrap.wheel_cache() / f"llama-server-{digest}"
    if program.exists():
        return program
    bootstrap.ensure_program("cmake", package="cmake", why="llama-server is built with it")
    bootstrap.say("building llama-server for this processor (once; some 20 minutes on two cores)")
    with tempfile.TemporaryDirectory(prefix="sprat-llama-server-") as folder:
        source = _source(Path(folder))
        cmake = ["cmake", "-S", source, "-B", source / "build", *_CMAKE]
        subprocess.run(cmake, check=True, stdout=subprocess.DEVNULL)
        jobs = str(os.cpu_count() or 1)
        make = ["cmake", "--build", source / "build", "--target", "llama-server", "-j", jobs]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        keep(source / "build" / "bin" / "llama-server", program)
    return program


def keep(built: Path, program: Path) -> None:
    """Put what was built into the cache, whole or not at all."""
    unfinished = program.with_suffix(".new")
    shutil.copy2(built, unfinished)
    unfinished.rename(program)


def _source(folder: Path) -> Path:
    """Return the unpacked llama.cpp of the locked release."""
    pip = [sys.executable, "-m", "pip"]
    tools = bootstrap.TOOLS / "bin" / "python"
    if tools.exists():
        pip = [str(tools), "-m", "pip"]
    subprocess.run(
        [
            *pip,
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary=:all:",
            "--require-hashes",
            "-r",
            bootstrap.REQUIREMENTS / "llama.txt",
            "-d",
            folder,
        ],
        check=True,
    )
    (archive,) = folder.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
