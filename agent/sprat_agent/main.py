"""`sprat-agent`: enrol a device, run its agent, ask it how it is."""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from sprat_proto.claim import ClaimError, read_file
from sprat_proto.trust import hardware_id

from sprat_agent import config as configuration
from sprat_agent.clock import BUILT_AT, kernel_is_synchronised, seconds_since_boot, system_clock
from sprat_agent.config import (
    Claimed,
    EnrolConfig,
    ImportConfig,
    MeasureConfig,
    RunConfig,
    StatusConfig,
)
from sprat_agent.errors import StartupError
from sprat_agent.sync.executor import OnTransition

_LOG = logging.getLogger(__name__)


def nothing(_execution_id: str, _phase: str, _moment: str) -> None:
    """Watch transitions without doing anything."""


def main(arguments: Sequence[str] | None = None, *, on_transition: OnTransition = nothing) -> int:
    """Run the command line; return the exit status.

    Args:
        arguments: Without the program's name; by default those of the process.
        on_transition: Told of every phase of an execution; see `sync.executor`.
    """
    config = configuration.parse(sys.argv[1:] if arguments is None else arguments)
    try:
        match config:
            case EnrolConfig():
                enrol(config)
            case RunConfig():
                run(config, on_transition)
            case StatusConfig():
                status(config)
            case ImportConfig():
                import_bundle(config)
            case MeasureConfig():
                measure(config)
    except StartupError as error:
        sys.stderr.write(f"sprat-agent: {error}\n")
        return 1
    return 0


def enrol(config: EnrolConfig) -> None:
    """Make the device known to the controller.

    Raises:
        StartupError: It was not; one sentence says why.
    """
    if not isinstance(config.claim, Path):
        _enrol(config, config.claim, _read(config.image_root))
        return
    # An image does this at each start.
    if _is_enrolled(config.state_dir):
        sys.stdout.write("enrolled already\n")
    else:
        try:
            found = read_file(config.claim.read_bytes())
        except (OSError, ClaimError) as error:
            raise StartupError(f"the claim file {config.claim} is of no use: {error}") from error
        in_image = found.image_root.encode() if found.image_root is not None else None
        claimed = Claimed(found.controller, found.token)
        _enrol(config, claimed, _read(config.image_root) or in_image)
    _remove_claim(config.claim)


def _enrol(config: EnrolConfig, claimed: Claimed, image_root: bytes | None) -> None:
    # Imports an HTTP client, which a running agent does not need.
    from sprat_agent.identity.enrol import Choices, EnrolmentError  # noqa: PLC0415 - see above
    from sprat_agent.identity.enrol import enrol as enrol_device  # noqa: PLC0415

    choices = Choices(
        hardware_id=hardware_id(platform.machine()),
        identity_key=config.identity_key,
        image_root=image_root,
        director_root=_read(config.director_root),
    )
    try:
        identity = enrol_device(claimed.controller_url, claimed.token, config.state_dir, choices)
    except EnrolmentError as error:
        raise StartupError(str(error)) from error
    sys.stdout.write(
        f"enrolled as {identity.device_id} at {identity.controller_url}, group {identity.group}\n"
    )


def _is_enrolled(state_dir: Path) -> bool:
    from sprat_agent.identity.identity import IdentityError, load  # noqa: PLC0415 - as above

    try:
        load(state_dir)
    except IdentityError:
        return False  # never, or not to its end: enrolment says what is in the way
    return True


def _remove_claim(file: Path) -> None:
    """Remove a token that has served: of a batch, it is good for other devices yet."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        sys.stderr.write(f"sprat-agent: remove the claim file by hand: {error}\n")


def _read(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"the root to pin cannot be read: {error}") from error


def run(config: RunConfig, on_transition: OnTransition) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        StartupError: It cannot start.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "uvicorn", "tuf"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    asyncio.run(_run(config, on_transition))


async def _run(config: RunConfig, on_transition: OnTransition) -> None:
    # `status` and `enrol` need nothing of this.
    from sprat_agent.composition import Agent, World, profile_of  # noqa: PLC0415
    from sprat_agent.identity.identity import IdentityError, load  # noqa: PLC0415
    from sprat_agent.link.carrier import LinkUnavailableError  # noqa: PLC0415
    from sprat_agent.link.carriers import carriers_for  # noqa: PLC0415

    try:
        identity = load(config.state_dir)
        carriers = carriers_for(identity, config.carrier)
    except (IdentityError, LinkUnavailableError) as error:
        raise StartupError(str(error)) from error
    profile = profile_of(config.declared_profile, config.state_dir)
    world = World(
        clock=system_clock,
        is_synchronised=kernel_is_synchronised,
        uniform=random.uniform,
        new_id=lambda: uuid.uuid4().hex,
        on_transition=on_transition,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await Agent(config, identity, profile, carriers, world).run(stopped)


def import_bundle(config: ImportConfig) -> None:
    """Take in a bundle while no agent runs on the folder.

    Raises:
        StartupError: It is refused, or an agent runs there.
    """
    # As above: `status` and `enrol` need nothing of this.
    from sprat_agent.audit.journal import Watch  # noqa: PLC0415
    from sprat_agent.bundle.receive import Device, receive  # noqa: PLC0415
    from sprat_agent.bundle.refusal import BundleError  # noqa: PLC0415
    from sprat_agent.errors import StateError  # noqa: PLC0415
    from sprat_agent.identity.identity import IdentityError, load  # noqa: PLC0415
    from sprat_agent.sync.freshness import reference_time  # noqa: PLC0415

    try:
        device = Device(
            config.state_dir,
            load(config.state_dir),
            hardware_id(platform.machine()),
            clock=system_clock,
            time=lambda floor: reference_time(
                system_clock(), floor, BUILT_AT, is_synchronised=kernel_is_synchronised()
            ),
            watch=Watch(uuid.uuid4().hex, seconds_since_boot, kernel_is_synchronised),
        )
        loaded = asyncio.run(receive(config.bundle, device))
    except (BundleError, IdentityError, StateError) as error:
        raise StartupError(str(error)) from error
    names = ", ".join(f"{one.alias}: {one.name}" for one in loaded.models) or "nothing"
    sys.stdout.write(f"assignment {loaded.version} is obeyed from the next start on: {names}\n")


def measure(config: MeasureConfig) -> None:
    """Print how fast this device is, one JSON object; it is not kept.

    Raises:
        StartupError: There is too little memory, or measuring failed.
    """
    # As above: `status` and `enrol` need nothing of this.
    import msgspec  # noqa: PLC0415

    from sprat_agent.measuring import occasion, process  # noqa: PLC0415
    from sprat_agent.profile import cpu, probe  # noqa: PLC0415

    available = probe.memory_available()
    size = occasion.model_bytes(available, occasion.MOST_BYTES)
    if not size:
        raise StartupError(
            f"measuring takes a quarter of the memory that is available, {occasion.LEAST_BYTES}"
            f" bytes at least; {available} are available"
        )
    terms = process.Terms(cpu.usable_cores(), size, probe.cpu_quota_milli())
    folder = config.state_dir or Path(tempfile.gettempdir())
    try:
        found = asyncio.run(process.measure(terms, folder))
    except (process.MeasuringError, OSError) as error:
        raise StartupError(f"this device could not be measured: {error}") from error
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def status(config: StatusConfig) -> None:
    """Print what the running agent says of itself, one JSON object.

    Raises:
        StartupError: None is running there.
    """
    from sprat_agent.ready_file import ReadyFile  # noqa: PLC0415 - as above

    ready = ReadyFile(config.state_dir).read()
    sys.stdout.write(_get(ready.http, "/agent/v1/status", config.state_dir) + "\n")


def _get(base_url: str, path: str, state_dir: Path) -> str:
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - for `status` only

    connection = HTTPConnection(base_url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, HTTPException) as error:
        raise StartupError(
            f"the agent of {state_dir} does not answer on {base_url} ({error}): is it running?"
        ) from error
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
