"""The `sprat` command: its verbs, and the one place where errors become a sentence and a status.

Every failure is one line on standard error that begins with "sprat: "; a bug says that it is one,
and shows where only with SPRAT_DEBUG=1.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from sprat_proto.gguf import ModelFileError
from sprat_proto.manifest import ManifestError
from sprat_proto.signing import KeyFileError
from typer.core import TyperGroup

from sprat_controller.cli import (
    access,
    audit,
    bundle,
    channels,
    devices,
    enrolment,
    fit,
    fleet_file,
    keys,
    models,
    publishers,
    recurring,
    rollout,
    trust,
    why,
)
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import say, text
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.evaluate.evaluate import EvaluateError
from sprat_controller.publisher.quality import QualityError
from sprat_controller.publisher.quantize import QuantizeError
from sprat_controller.trust.words import MetadataError

_USAGE: Final = 2  # how typer ends for wrong usage
_STATUSES: Final[Mapping[type[Exception], Exit]] = {
    ModelFileError: Exit.REFUSED,
    ManifestError: Exit.REFUSED,
    KeyFileError: Exit.ERROR,
    ConvertError: Exit.REFUSED,
    QuantizeError: Exit.ERROR,
    EvaluateError: Exit.ERROR,
    QualityError: Exit.REFUSED,
    MetadataError: Exit.REFUSED,
}


class SpratGroup(TyperGroup):
    """The root of all verbs: ends each call with our exit statuses."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a call and leave the process with its status."""
        options["standalone_mode"] = False
        sys.exit(_status_of(lambda: TyperGroup.main(self, *args, **options)))


app = typer.Typer(
    cls=SpratGroup,
    name="sprat",
    help="Operate a fleet of devices that run signed language models.",
    epilog="Example: sprat login https://controller.example:7770 --ca ca.pem",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
access.add_to(app)
for part in (
    *(enrolment, devices, keys, publishers, trust, models, channels),
    *(fit, rollout, recurring, why, fleet_file, bundle, audit),
):
    part.add_to(app)


def main() -> None:
    """Run `sprat` as the process's arguments say."""
    app(prog_name="sprat")


def _status_of(call: Callable[[], object]) -> int:
    """Run a call, tell what went wrong, and return the exit status."""
    try:
        status = call()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); Python must not flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes one sentence
        message, ended = _explained(error)
        say(f"sprat: {' '.join(text(message).split())}")
        return ended
    return status if isinstance(status, int) else Exit.DONE


def _explained(error: Exception) -> tuple[str, Exit]:
    """Return what to tell about an error, and the exit status."""
    match error:
        case CliError():
            return error.message, error.status
        case typer.Abort():
            return "nothing was changed", Exit.ERROR
        case typer.TyperException():
            return _usage(error), Exit.USAGE if error.exit_code == _USAGE else Exit.ERROR
        case _ if type(error) in _STATUSES:
            return str(error), _STATUSES[type(error)]
        case _:
            return _bug(error), Exit.ERROR


def _usage(error: typer.TyperException) -> str:
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context else "sprat"
    return f"{error.format_message().rstrip('.')} (see `{command} --help`)"


def _bug(error: Exception) -> str:
    if os.environ.get("SPRAT_DEBUG") == "1":
        traceback.print_exception(error)
    return (
        f"this is a bug in sprat ({type(error).__name__}: {error}); please report it with the"
        " command you ran and what it prints with SPRAT_DEBUG=1"
    )
