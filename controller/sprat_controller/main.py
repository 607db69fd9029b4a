"""`sprat-controller`: the flags of its verbs, and one sentence for what stands in the way.

Each verb imports what it does when it does it: to put the API's routes together takes longer than
`init` does, and wrong flags need nothing at all.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from sprat_controller import __version__, config
from sprat_controller.audit.forwarding import destination
from sprat_controller.clock import system_clock
from sprat_controller.errors import StartupError

_USAGE_STATUS: Final = 64
_MAX_HEARTBEAT_S: Final = 3600
_DATABASE_FORM: Final = f"{config.DATABASE_SCHEME}://USER@HOST/NAME"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        """End with one sentence."""
        self.exit(_USAGE_STATUS, f"sprat-controller: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.verb == "init":
            return _init(asked)
        if asked.verb == "audit":
            return _restore_audit(asked)
        if asked.verb == "recover":
            return _recover(asked)
        return _run(asked)
    except StartupError as error:
        print(f"sprat-controller: {error.message}", file=sys.stderr)  # noqa: T201 - for people
        return 1


def _init(asked: argparse.Namespace) -> int:
    from sprat_controller.initialise import initialise, screen  # noqa: PLC0415 - see above

    made = initialise(
        config.DataFolder(asked.data),
        asked.host,
        system_clock,
        offline=asked.offline_keys,
        passphrase_file=asked.passphrase_file,
        database_url=asked.database,
    )
    print(screen(made))  # noqa: T201 - the command's output
    return 0


def _recover(asked: argparse.Namespace) -> int:
    from sprat_controller.recover import recover  # noqa: PLC0415 - see above

    print(recover(config.DataFolder(asked.data), system_clock, asked.database))  # noqa: T201 - its output
    return 0


def _restore_audit(asked: argparse.Namespace) -> int:
    from sprat_controller import restore_audit  # noqa: PLC0415 - see above

    wanted = restore_audit.Wanted(
        asked.reason, asked.export, asked.accept_loss, asked.database, asked.signer
    )
    folder, talk = config.DataFolder(asked.data), restore_audit.Talk(print, input)
    print(restore_audit.restore(folder, wanted, system_clock, talk))  # noqa: T201 - its output
    return 0


def _run(asked: argparse.Namespace) -> int:
    import uvloop  # noqa: PLC0415 - see above

    from sprat_controller import process  # noqa: PLC0415 - see above

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for name in ("alembic", "uvicorn.error", "httpx", "tuf"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        broker = config.parse_broker(asked.mqtt, asked.mqtt_port)
    except ValueError as error:
        raise StartupError("bad_flag", f"argument --mqtt: {error}") from error
    try:
        receivers = destination.each_once(asked.forward_audit)
    except ValueError as error:
        raise StartupError("bad_flag", f"argument --forward-audit: {error}") from error
    options = config.RunOptions(
        asked.listen,
        asked.api_port,
        asked.grpc_port,
        broker,
        asked.heartbeat,
        asked.signer,
        asked.database,
        receivers,
        asked.oidc,
    )
    uvloop.run(process.run(config.DataFolder(asked.data), options, system_clock))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sprat-controller", description="Publishes signed models and rolls them out."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="init|run|recover|audit")
    init = verbs.add_parser("init", help="make keys, database and the first token")
    init.add_argument("--data", type=Path, required=True, metavar="DIR")
    init.add_argument(
        "--host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address that devices reach the controller by; repeatable",
    )
    init.add_argument(
        "--offline-keys",
        type=Path,
        metavar="DIR",
        help="where to put the keys that must leave this machine (default DATA/offline)",
    )
    init.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="of the offline keys; by default one is made and lies beside them",
    )
    init.add_argument(
        "--database",
        type=_database,
        metavar="URL",
        help=f"where the rows are, {_DATABASE_FORM} (default: SQLite in DATA); kept for `run`",
    )
    again = verbs.add_parser("recover", help="let in the administrator who lost their token")
    again.add_argument("--data", type=Path, required=True, metavar="DIR")
    again.add_argument(
        "--database", type=_database, metavar="URL", help="if it is not what `init` was told"
    )
    audit = verbs.add_parser("audit", help="the audit log, while nothing is running")
    audit_verbs = audit.add_subparsers(dest="audit_verb", required=True, metavar="restore")
    restored = audit_verbs.add_parser(
        "restore", help="go on with the log of a database that is from a backup"
    )
    restored.add_argument("--data", type=Path, required=True, metavar="DIR")
    restored.add_argument("--reason", required=True, metavar="TEXT", help="it stands in the log")
    restored.add_argument(
        "--export", type=Path, metavar="FILE", help="a whole export, to put records back from"
    )
    restored.add_argument(
        "--accept-loss", type=_count, metavar="N", help="so many records are lost, and known to be"
    )
    restored.add_argument(
        "--database", type=_database, metavar="URL", help="if it is not what `init` was told"
    )
    restored.add_argument(
        "--signer", type=Path, metavar="DIR", help="the signer's folder (default DATA/signer)"
    )
    run_ = verbs.add_parser("run", help="serve until SIGTERM")
    run_.add_argument("--data", type=Path, required=True, metavar="DIR")
    run_.add_argument("--listen", type=_host, default="127.0.0.1", metavar="ADDRESS")
    run_.add_argument("--api-port", type=_port, default=7770, metavar="PORT", help="0: any free")
    run_.add_argument("--grpc-port", type=_port, default=7771, metavar="PORT", help="0: any free")
    run_.add_argument(
        "--mqtt", default="off", metavar="off|managed|mqtts://HOST:PORT", help="default: off"
    )
    run_.add_argument("--mqtt-port", type=_port, default=config.DEFAULT_BROKER_PORT, metavar="PORT")
    run_.add_argument(
        "--signer",
        type=Path,
        metavar="SOCKET",
        help="a signer that runs by itself; by default it runs as a child, on DATA/signer",
    )
    run_.add_argument(
        "--database",
        type=_database,
        metavar="URL",
        help=f"{_DATABASE_FORM}, if it is not what `init` was told",
    )
    run_.add_argument(
        "--forward-audit",
        type=_destination,
        action="append",
        default=[],
        metavar="URL",
        help="a receiver of the audit log, syslog+udp|tcp|tls://HOST:PORT or"
        " otlp+http|https://HOST:PORT; repeatable",
    )
    run_.add_argument(
        "--oidc",
        type=Path,
        metavar="FILE",
        help="the OpenID provider that people sign in at, as TOML (docs/access.md)",
    )
    run_.add_argument("--heartbeat", type=_seconds, default=60, metavar="SECONDS")
    return parser


def _host(text: str) -> str:
    try:
        return config.check_host(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _port(text: str) -> int:
    try:
        return config.check_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _database(text: str) -> str:
    try:
        return config.check_database(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _destination(text: str) -> destination.Destination:
    try:
        return destination.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number of records, found {text!r}")
    return int(text)


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_HEARTBEAT_S:
        raise argparse.ArgumentTypeError(
            f"expected 1 to {_MAX_HEARTBEAT_S} seconds, found {text!r}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
