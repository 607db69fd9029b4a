"""A real PostgreSQL in a folder of its own, for as long as the tests run.

It listens on a Unix socket only. The server refuses to run as root: there it runs as the user
`nobody`. Nothing here outlives a power cut, so nothing waits for the disk.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
from processes import ProcessError, wait_for
from sprat_controller.store import migrations
from sprat_controller.store.session import Database

_INSTALLED: Final = Path("/usr/lib/postgresql")
_USER: Final = "sprat"
_TEMPLATE: Final = "migrated"
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "autovacuum": "off",
}


class Cluster:
    """A running server."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._process = process
        self._numbers = count(1)

    def url(self, name: str) -> str:
        """Return where a controller finds the database `name`."""
        return f"postgresql+psycopg://{_USER}@/{name}?host={self.folder}"

    def create(self, *, template: str = "template0") -> str:
        """Make a database and return its name."""
        name = f"test_{next(self._numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return name

    def create_migrated(self) -> str:
        """Make a database with all tables and return its name."""
        if not self._has_template():
            first = self.create()
            made = Database(self.url(first))
            migrations.upgrade(made)
            made.close()
            with self.connect("postgres") as connection:
                connection.execute(f"ALTER DATABASE {first} RENAME TO {_TEMPLATE}".encode())
        return self.create(template=_TEMPLATE)

    def drop(self, name: str) -> None:
        """End all connections to a database, and remove it."""
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    @contextmanager
    def connect(self, name: str) -> Generator[psycopg.Connection[Any]]:
        """Yield a connection on which each statement is a transaction."""
        with psycopg.connect(
            host=str(self.folder), user=_USER, dbname=name, autocommit=True
        ) as connection:
            yield connection

    def stop(self) -> None:
        """End all connections and the server."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def _has_template(self) -> bool:
        with self.connect("postgres") as connection:
            asked = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE])
            return asked.fetchone() is not None


@contextmanager
def running() -> Generator[Cluster]:
    """Make a cluster, start it, and remove it in the end."""
    # Not in pytest's folder: another user must reach it, and a socket's path is short.
    in_memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes an own folder in it
    place = in_memory if in_memory.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="sprat-pg-", dir=place))
    as_user = _as_user(folder)
    try:
        _run(
            *(*as_user, str(_program("initdb")), "-D", str(folder / "data"), "-U", _USER),
            *("-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
            cwd=folder,
        )
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(*as_user, str(_program("postgres")), "-D", str(folder / "data")),
                    *("-k", str(folder), *settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        cluster = Cluster(folder, process)
        try:
            wait_for("PostgreSQL", lambda: _answers(cluster), timeout_s=60)
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(cluster: Cluster) -> bool:
    try:
        with cluster.connect("postgres"):
            return True
    except psycopg.OperationalError:
        return False


def _as_user(folder: Path) -> Sequence[str]:
    """Return what goes before a command so that it does not run as root, and give it the folder."""
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # The tests' own user, root, still gets in; the socket is reached by path.
    folder.chmod(0o755)
    ids = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    return ("setpriv", *ids)


def _program(name: str) -> Path:
    found = sorted(_INSTALLED.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1]
    on_path = shutil.which(name)
    if on_path is None:
        raise ProcessError(f"PostgreSQL's {name} is not installed: run `make setup-tests`")
    return Path(on_path)


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        raise ProcessError(f"{command[-1]}: {done.stderr.strip()}")
