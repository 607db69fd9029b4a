"""`sprat login --oidc`: a code that is typed in a browser, on this machine or on any other."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sprat_controller.cli.client import Api
from sprat_controller.cli.exits import CliError, Exit, UnreachableError
from sprat_controller.cli.output import say
from sprat_controller.cli.settings import Settings, checked_token
from sprat_controller.cli.verbs import Session

_MIN_S: Final = 1
_MAX_S: Final = 60


def sign_in(session: Session, settings: Settings) -> str:
    """Begin a session and return its secret.

    Raises:
        CliError: Nobody signed in, and why.
    """
    api = Api(settings, session.around.transport)
    try:
        begun = api.post("oidc/device")
        handle, ends = _word(begun, "handle"), _moment(begun)
        _tell(begun)
        wait_s = _seconds(begun)
        while session.around.clock() < ends:
            session.around.sleep(wait_s)
            answer = _asked(api, handle)
            login: Any = answer.get("login")
            if isinstance(login, dict):
                return checked_token(str(login.get("token")))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - JSON
            wait_s = _seconds(answer) if answer else wait_s
    finally:
        api.close()
    raise CliError("nobody typed the code in time: run `sprat login` again", Exit.DENIED)


def _asked(api: Api, handle: str) -> dict[str, Any]:
    """Return the answer to one asking; nothing, if the controller was away for it."""
    try:
        return api.post("oidc/device/token", {"handle": handle})
    except UnreachableError:
        return {}  # it is asked again until the code is over


def _tell(begun: dict[str, Any]) -> None:
    address, complete = _word(begun, "verification_uri"), begun.get("verification_uri_complete")
    say(f"Open {address} in a browser and type the code {_word(begun, 'user_code')}")
    if isinstance(complete, str) and complete:
        say(f"or open {complete}")
    say("Type no code that somebody else sent you.")


def _word(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise CliError(f"expected {name} from the controller, found another answer: check the URL")
    return value


def _moment(begun: dict[str, Any]) -> datetime:
    try:
        found = datetime.fromisoformat(_word(begun, "expires_at"))
    except ValueError as error:
        raise CliError("expected a time from the controller, found another answer") from error
    if found.tzinfo is None:
        raise CliError("expected a time with its zone from the controller, found another answer")
    return found


def _seconds(answer: dict[str, Any]) -> int:
    found = answer.get("interval_s")
    return min(max(found, _MIN_S), _MAX_S) if isinstance(found, int) else _MAX_S
