"""`sprat-signer run`: the process that holds the online keys."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sprat_controller import __version__
from sprat_controller.clock import system_clock
from sprat_controller.errors import StartupError
from sprat_controller.signer import rotation
from sprat_controller.signer.folder import SignerFolder
from sprat_controller.signer.server import SignerServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="sprat-signer", description="Signs plans, timestamps and certificates; nothing else."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run_ = verbs.add_parser("run", help="serve on a Unix socket until SIGTERM")
    run_.add_argument("--data", type=Path, required=True, metavar="DIR")
    for verb, help_ in (
        ("new-key", "make the next key of a role; nothing is signed with it yet"),
        ("use-key", "sign with the next key from the next start on; the one so far is set aside"),
    ):
        change = verbs.add_parser(verb, help=help_)
        change.add_argument("name", choices=rotation.NAMES)
        change.add_argument("--data", type=Path, required=True, metavar="DIR")
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
            case _:
                run(folder)
    except StartupError as error:
        print(f"sprat-signer: {error.message}", file=sys.stderr)  # noqa: T201 - for people
        return 1
    return 0


def say(text: str) -> None:
    """Print a line for people."""
    print(text)  # noqa: T201 - the command's output


def run(folder: SignerFolder) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StartupError: A key cannot be had, or the socket cannot be made.
    """
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
    server.serve()


if __name__ == "__main__":
    sys.exit(main())
