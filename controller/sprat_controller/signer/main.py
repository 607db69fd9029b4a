"""`sprat-signer run`: the process that holds the online keys."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import pwd
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sprat_controller import __version__
from sprat_controller.clock import system_clock
from sprat_controller.errors import StartupError
from sprat_controller.signer import rotation
from sprat_controller.signer.folder import LOG, SignerFolder
from sprat_controller.signer.server import SignerServer

_LOCK_TRIES: Final = 20
_LOCK_PAUSE_S: Final = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="sprat-signer", description="Signs plans, timestamps and certificates; nothing else."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run_ = verbs.add_parser("run", help="serve on a Unix socket until SIGTERM")
    run_.add_argument("--data", type=Path, required=True, metavar="DIR")
    run_.add_argument("--child", action="store_true", help="end when the standard input does")
    run_.add_argument("--user", metavar="NAME", help="become this user; for root")
    for verb, help_ in (
        ("new-key", "make the next key of a role; nothing is signed with it yet"),
        ("use-key", "sign with the next key from the next start on; the one so far is set aside"),
    ):
        change = verbs.add_parser(verb, help=help_)
        change.add_argument("name", choices=rotation.NAMES)
        change.add_argument("--data", type=Path, required=True, metavar="DIR")
    forget = verbs.add_parser(
        "forget-key", help="no longer sign the audit log with the key before as well"
    )
    forget.add_argument("name", choices=(LOG,))
    forget.add_argument("--data", type=Path, required=True, metavar="DIR")
    asked = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    folder = SignerFolder(asked.data)
    try:
        match asked.verb:
            case "new-key":
                say(f"the next key's public half: {rotation.new_key(folder, asked.name)}")
            case "use-key":
                say(f"{rotation.use_key(folder, asked.name)}; start the signer anew")
            case "forget-key":
                say(f"{rotation.forget_log_key(folder)}; start the signer anew")
            case _:
                if asked.user is not None:
                    _become(asked.user)
                run(folder, is_child=asked.child)
    except StartupError as error:
        print(f"sprat-signer: {error.message}", file=sys.stderr)  # noqa: T201 - for people
        return 1
    return 0


def say(text: str) -> None:
    """Print a line for people."""
    print(text)  # noqa: T201 - the command's output


def run(folder: SignerFolder, *, is_child: bool) -> None:
    """Serve until SIGTERM or SIGINT; a child also ends with its standard input.

    Raises:
        StartupError: A key cannot be had, or the socket cannot be made.
    """
    with _held(folder):
        uids = frozenset({os.geteuid(), 0, *folder.settings().users})
        server = SignerServer(folder.open(system_clock), folder.socket, uids)
        try:
            server.bind()
        except OSError as error:
            raise StartupError(
                "signer_socket", f"the socket {folder.socket} cannot be made: {error}"
            ) from error

        def stop(_signal: int, _frame: object) -> None:
            # Not in the handler: it interrupts the thread that holds the server's lock.
            threading.Thread(target=server.stop).start()

        for received in (signal.SIGTERM, signal.SIGINT):
            signal.signal(received, stop)
        if is_child:
            threading.Thread(target=_when_alone, args=(server.stop,), daemon=True).start()
        server.serve()


def _become(name: str) -> None:
    """Be another user from here on, before any key is read."""
    try:
        user = pwd.getpwnam(name)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except (KeyError, OSError) as error:
        raise StartupError("signer_user", f"the signer cannot be user {name!r}: {error}") from error


def _when_alone(then: Callable[[], None]) -> None:
    """Wait for the end of the standard input: that of the controller, however it ended."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    then()


@contextmanager
def _held(folder: SignerFolder) -> Generator[None]:
    """Hold the folder, after a signer that is just ending: there is one name of one socket."""
    try:
        file = folder.lock.open("w")
    except OSError as error:
        raise StartupError(
            "signer_folder", f"{folder.path} is no signer's folder: {error.strerror}"
        ) from error
    with file:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_LOCK_PAUSE_S)
        else:
            raise StartupError(
                "signer_running", f"another signer is using {folder.path}: stop it first"
            )
        yield


if __name__ == "__main__":
    sys.exit(main())
