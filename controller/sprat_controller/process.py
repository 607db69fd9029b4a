"""`sprat-controller run`: the one place that puts all parts together, starts and stops them.

They start from the rows outward (database, scheduler, link, API) and stop the other way round.
Being killed is an ordinary end too: everything that counts is in the rows.
"""

from __future__ import annotations

import asyncio
import fcntl
import hmac
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sprat_proto.audit_events import Tag
from sqlmodel import Session

from sprat_controller import __version__, ids
from sprat_controller.access.blob_credentials import BlobCredentials
from sprat_controller.access.oidc import configuration
from sprat_controller.access.oidc.provider import Provider
from sprat_controller.access.passwords import Passwords
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import Scope
from sprat_controller.access.snapshot import Policies
from sprat_controller.api.app import make_app
from sprat_controller.api.parts import Ids, LinkAddresses, Parts
from sprat_controller.audit import log, watch
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.denials import Denials
from sprat_controller.audit.expiring import Expiring
from sprat_controller.audit.forwarding import senders
from sprat_controller.audit.forwarding.destination import Logs
from sprat_controller.audit.forwarding.device_positions import DevicePositions
from sprat_controller.audit.forwarding.forwarder import Forwarder
from sprat_controller.audit.views.record import Origin
from sprat_controller.clock import Clock, kernel_is_synchronised, uptime_ns
from sprat_controller.config import (
    DataFolder,
    RunOptions,
    bracketed,
    is_wildcard,
    server_names,
    write_private,
)
from sprat_controller.errors import StartupError
from sprat_controller.fleet import reconcile
from sprat_controller.fleet.ca import CONTROLLER_NAME, KeyPair, Root, certified
from sprat_controller.fleet.rate import LOGIN_OF_ALL, LOGIN_PER_SOURCE, Gate, Gates
from sprat_controller.https import HttpsServer, listen
from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.conversation import Conversation, Welcoming
from sprat_controller.link.grpc import GrpcServer
from sprat_controller.link.hub import Hub
from sprat_controller.link.managed import managed_broker
from sprat_controller.link.mqtt import MqttCarrier
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.rollout import approver_policy
from sprat_controller.rollout.recurring.occurrences import OccurrenceRunner
from sprat_controller.rollout.recurring.recurrences import Recurrences
from sprat_controller.rollout.runner import Runner
from sprat_controller.rollout.service import RolloutService
from sprat_controller.rollout.sql_book import Around, SqlBook
from sprat_controller.schedule.clockwork import Clockwork, each
from sprat_controller.schedule.leases import Leases
from sprat_controller.signer.child import managed_signer
from sprat_controller.signer.client import SignerClient
from sprat_controller.signer.folder import SignerFolder
from sprat_controller.signer.port import FullSigner, Signer
from sprat_controller.store import tables
from sprat_controller.store.opening import open_database
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.trust.timestamps import TimestampJob

_log = logging.getLogger(__name__)
_NAME_DIGITS: Final = 8
# What the name of the controllers' share is made of: secret, and the same for all of them.
_SHARE: Final = b"sprat: what devices say over MQTT"


@dataclass(frozen=True)
class Core:
    """The parts of one process that need no port."""

    own_name: str  # no other controller of the same rows has it
    clock: Clock
    database: Database
    signer: Signer
    checkpoints: Checkpoints
    root: Root
    ca_pem: bytes  # root and issuer, for a broker
    blob_credentials: BlobCredentials
    hub: Hub
    denials: Denials
    policies: Policies
    clockwork: Clockwork
    blobs: BlobStore
    new_id: Callable[[], str]
    rollouts: RolloutService
    conversation: Conversation
    server: KeyPair  # the certificate that all servers of this process show
    client: KeyPair  # the controller's own: at the broker, and under what it acknowledges


async def run(folder: DataFolder, options: RunOptions, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StartupError: Something that it needs is not there; one sentence says what.
    """
    folder.check_initialised()
    stopping = _stop_signals()
    with (
        _held(folder),
        _single_sign_on(options) as oidc,
        listen(options.listen, options.api_port) as bound,
        _database(folder, options, clock) as database,
    ):
        async with (
            _signer(folder, options) as signer,
            _started(
                folder,
                options,
                clock,
                database=database,
                signer=signer,
                api_port=_port_of(bound),
            ) as core,
            _grpc(core, options) as grpc_port,
            _broker(core, options, folder, grpc_port) as (addresses, carrier),
            _ticking(core.clockwork),
            _forwarding(core, folder, options),
        ):
            app = make_app(_parts(core, addresses, oidc), __version__)
            https = HttpsServer(app, core.server, folder.tls)
            ready = _addresses(options, _port_of(bound), addresses)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(https.serve(bound), name="https")
                carrying = tasks.create_task(carrier, name="mqtt") if carrier else None
                await https.wait_started()
                with _announced(folder.ready, ready):
                    await stopping.wait()
                https.stop()
                await serving
                if carrying is not None:
                    carrying.cancel()


def _stop_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for received in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(received, stopping.set)
    return stopping


@contextmanager
def _held(folder: DataFolder) -> Generator[None]:
    """Hold the folder, so that no second process works on the same rows and files."""
    with folder.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupError(
                "already_running",
                f"another process is using {folder.path}: stop it first, or choose another folder",
            ) from error
        yield


@contextmanager
def _single_sign_on(options: RunOptions) -> Generator[Provider | None]:
    """Have the provider that people sign in at; nothing is asked of it before somebody comes."""
    if options.oidc is None:
        yield None
        return
    provider = Provider(configuration.load(options.oidc))
    try:
        yield provider
    finally:
        provider.close()


@contextmanager
def _database(folder: DataFolder, options: RunOptions, clock: Clock) -> Generator[Database]:
    """Open the rows, migrated to the newest schema; start and stop stand in the audit log."""
    url = options.database or folder.database_url() or sqlite_url(folder.database)
    database = open_database(url)
    boot_id = ids.time_ordered(clock)()
    watch.put_on(database, watch.Watch(boot_id, uptime_ns, kernel_is_synchronised))
    try:
        _note(database, Tag.CONTROLLER_STARTED, clock)
        yield database
        _note(database, Tag.CONTROLLER_STOPPED, clock)
    finally:
        database.close()


def _note(database: Database, tag: Tag, clock: Clock) -> None:
    with database.transaction() as session:
        log.append(
            session,
            tag,
            at=clock(),
            actor="controller",
            subject="controller",
            detail={"version": __version__},
        )


@asynccontextmanager
async def _signer(folder: DataFolder, options: RunOptions) -> AsyncGenerator[FullSigner]:
    """Have a signer: as a child, or the one that runs by itself."""
    if options.signer is None:
        async with managed_signer(SignerFolder(folder.signer)) as managed:
            yield managed
        return
    client = SignerClient(options.signer)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def _started(
    folder: DataFolder,
    options: RunOptions,
    clock: Clock,
    *,
    database: Database,
    signer: FullSigner,
    api_port: int,
) -> AsyncGenerator[Core]:
    made = partial(_core, database=database, signer=signer, api_port=api_port)
    yield await asyncio.to_thread(made, folder, options, clock)


def _core(
    folder: DataFolder,
    options: RunOptions,
    clock: Clock,
    *,
    database: Database,
    signer: FullSigner,
    api_port: int,
) -> Core:
    root, credentials = Root.load(folder.ca), _blob_credentials(folder)
    names = server_names(folder.hosts(), options.listen, folder.machine())
    base = f"https://{bracketed(names[0])}:{api_port}"
    hub, denials, policies = Hub(), Denials(database), Policies()
    own_name = _own_name(folder, database)
    leases = Leases(database, tables.of(tables.Rollout), own_name, clock)
    recurrences = Leases(database, tables.of(tables.Recurrence), own_name, clock)
    # What this name held was held by the process before this one.
    for held in (leases, recurrences):
        held.forget_own()
    blobs, new_id = BlobStore(folder.blobs), ids.time_ordered(clock)
    policy = approver_policy.published(blobs)

    def holds(session: Session, subject: str, permission: Permission) -> Scope | None:
        return policies.current(session, clock()).scope(subject, permission)

    around = Around(database, signer, hub.push, leases, new_id, policy, holds)
    runner = Runner(leases, lambda lease: SqlBook(around, lease))

    def wake() -> None:
        clockwork.wake()

    rollouts = RolloutService(database, clock, new_id, wake, policy)

    def standing(session: Session, subject: str) -> Scope | None:
        return holds(session, subject, Permission.ROLL_OUT)

    occurrences = OccurrenceRunner(database, rollouts, recurrences, standing)

    timestamp = TimestampJob(database, signer)
    checkpoints = Checkpoints(database, signer)
    expiring = Expiring(database, checkpoints)

    def look() -> None:
        # First what creates rollouts: they are due at once.
        others_end = each(lambda: occurrences.run_due(clock()), lambda: runner.run_due(clock()))
        each(
            lambda: timestamp.look(clock()),
            lambda: checkpoints.look(clock()),
            lambda: expiring.look(clock()),
        )
        for end in others_end:
            if end is not None:
                clockwork.wake_at(end)

    # Before the broker starts: its list of revoked certificates must name them.
    reconcile.tell_of_removed(database, signer, clock())
    clockwork = Clockwork(look)
    client = certified(signer, "client", CONTROLLER_NAME)
    conversation = Conversation(
        database,
        clock,
        signer=signer,
        acknowledger=Acknowledger(client),
        credentials=credentials,
        denials=denials,
        welcoming=Welcoming(options.heartbeat_s, [f"{base}/blobs"], [f"{base}/image"]),
        on_progress=clockwork.wake,
    )
    # Whoever was connected to the process before this one is not connected to this one.
    conversation.forget_presence()
    return Core(
        own_name=own_name,
        clock=clock,
        database=database,
        signer=signer,
        checkpoints=checkpoints,
        root=root,
        ca_pem=root.certificate_pem + _issuer_pem(client),
        blob_credentials=credentials,
        hub=hub,
        denials=denials,
        policies=policies,
        clockwork=clockwork,
        blobs=blobs,
        new_id=new_id,
        rollouts=rollouts,
        conversation=conversation,
        server=certified(signer, "server", names[0][:64], names),
        client=client,
    )


def _own_name(folder: DataFolder, database: Database) -> str:
    """Return the name under which this controller works on what is due.

    The only controller of its rows has always the same name, so that after a kill it goes on at
    once; one of many waits for the end of what it held, for it may not be the one that it was.
    """
    if not database.is_shared:
        return "controller"
    return f"{folder.machine()}/{os.getpid()}/{ids.new_secret()[:_NAME_DIGITS]}"


def _issuer_pem(pair: KeyPair) -> bytes:
    """Return the certificates behind the first one."""
    _, *behind = x509.load_pem_x509_certificates(pair.certificate_pem)
    return b"".join(one.public_bytes(Encoding.PEM) for one in behind)


def _blob_credentials(folder: DataFolder) -> BlobCredentials:
    try:
        return BlobCredentials(folder.blob_secret.read_bytes())
    except (OSError, ValueError) as error:
        raise StartupError(
            "keys_unreadable",
            f"expected {folder.blob_secret} as `sprat-controller init` makes it: {error}",
        ) from error


def _parts(core: Core, addresses: LinkAddresses, oidc: Provider | None) -> Parts:
    core.blobs.clear_incoming()
    return Parts(
        database=core.database,
        clock=core.clock,
        ids=Ids(core.new_id, ids.new_secret),
        authority=core.root,
        signer=core.signer,
        gates=Gates(enrolment=Gate(), renewal=Gate(), login=Gate(LOGIN_PER_SOURCE, LOGIN_OF_ALL)),
        passwords=Passwords(),
        oidc=oidc,
        blobs=core.blobs,
        blob_credentials=core.blob_credentials,
        denials=core.denials,
        policies=core.policies,
        checkpoints=core.checkpoints,
        rollouts=core.rollouts,
        recurrences=Recurrences(core.database, core.clock, core.new_id),
        addresses=addresses,
        end_session=core.hub.end,
        wake=core.clockwork.wake,
    )


@asynccontextmanager
async def _grpc(core: Core, options: RunOptions) -> AsyncGenerator[int]:
    """Listen for devices; yields the port."""
    server = GrpcServer(
        core.hub,
        core.conversation,
        ca_pem=core.ca_pem,
        server=core.server,
        host=options.listen,
        port=options.grpc_port,
    )
    port = await server.start()
    try:
        yield port
    finally:
        await server.stop()


@asynccontextmanager
async def _broker(
    core: Core, options: RunOptions, folder: DataFolder, grpc_port: int
) -> AsyncGenerator[tuple[LinkAddresses, Coroutine[object, object, None] | None]]:
    """Have the broker that was asked for; yields its address and what holds the conversation."""
    wanted = options.broker
    if wanted is None:
        yield LinkAddresses(grpc_port), None
    elif wanted.host is not None:
        elsewhere = f"{bracketed(wanted.host)}:{wanted.port}"
        yield (
            LinkAddresses(grpc_port, mqtt_broker=elsewhere),
            _carrier(core, folder, wanted.host, wanted.port),
        )
    else:
        async with managed_broker(
            folder.broker,
            ca_pem=core.ca_pem,
            server=core.server,
            signer=core.signer,
            hub=core.hub,
            clock=core.clock,
            database=core.database,
            host=options.listen,
            port=wanted.port,
        ) as port:
            yield (
                LinkAddresses(grpc_port, mqtt_port=port),
                _carrier(core, folder, _reached(options.listen), port),
            )


def _carrier(
    core: Core, folder: DataFolder, host: str, port: int
) -> Coroutine[object, object, None]:
    # Controllers of the same rows share what devices say; a name at the broker is one's own.
    own = f"-{ids.new_secret()[:_NAME_DIGITS]}" if core.database.is_shared else ""
    return MqttCarrier(
        core.hub,
        core.conversation,
        host=host,
        port=port,
        client=core.client,
        ca_pem=core.ca_pem,
        group=hmac.digest(folder.blob_secret.read_bytes(), _SHARE, "sha256").hex(),
        client_id=f"{CONTROLLER_NAME}{own}",
    ).run()


@asynccontextmanager
async def _ticking(clockwork: Clockwork) -> AsyncGenerator[None]:
    clockwork.start()
    try:
        yield
    finally:
        await asyncio.to_thread(clockwork.stop)


@asynccontextmanager
async def _forwarding(core: Core, folder: DataFolder, options: RunOptions) -> AsyncGenerator[None]:
    """Have the audit log sent on, to each destination in a thread of its own."""
    origin = Origin(_server_name(folder, options), __version__)
    forwarders: list[Forwarder] = []
    for one in options.forward_audit:
        around = (core.database, core.own_name, core.clock)
        if one.logs is not Logs.DEVICES:
            forwarders.append(Forwarder(one.name, senders.make(one, origin), *around))
        if one.logs is not Logs.CONTROLLER:
            name = f"{one.name}#devices"
            position = DevicePositions(core.database, name, core.own_name)
            made = senders.make(one, origin)
            forwarders.append(Forwarder(name, made, *around, position=position))
    for forwarder in forwarders:
        await asyncio.to_thread(forwarder.start)
    try:
        yield
    finally:
        stopped = (asyncio.to_thread(forwarder.stop) for forwarder in forwarders)
        await asyncio.gather(*stopped)


def _server_name(folder: DataFolder, options: RunOptions) -> str:
    """Return the name of this controller that is the most public."""
    return server_names(folder.hosts(), options.listen, folder.machine())[0]


def _addresses(options: RunOptions, api_port: int, addresses: LinkAddresses) -> dict[str, object]:
    host = bracketed(_reached(options.listen))
    return {
        "pid": os.getpid(),
        "api": f"https://{host}:{api_port}",
        "grpc": addresses.grpc(host),
        "mqtt": addresses.mqtt(host),
    }


@contextmanager
def _announced(path: Path, addresses: dict[str, object]) -> Generator[None]:
    """Tell that the controller serves, for as long as it does."""
    write_private(path, json.dumps(addresses).encode())
    _log.info("serving at %(api)s, gRPC %(grpc)s, MQTT %(mqtt)s", addresses)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        _log.info("stopping")


def _reached(listen_address: str) -> str:
    """Return how this machine itself reaches what listens there."""
    if is_wildcard(listen_address):
        return "::1" if ":" in listen_address else "127.0.0.1"
    return listen_address


def _port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])
