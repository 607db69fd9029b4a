"""The composition root: which parts there are and how they know each other."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from sprat_proto.assignment import AssignedModel
from sprat_proto.audit_events import Tag
from sprat_proto.fit import Profile
from sprat_proto.trust import hardware_id
from sprat_proto.v1.link_pb2 import Welcome

from sprat_agent import __version__
from sprat_agent.api import network
from sprat_agent.api.device import DeviceFigures
from sprat_agent.api.tally import Tally
from sprat_agent.audit import configuration, sealing, settings
from sprat_agent.audit.accounts import Accounts
from sprat_agent.audit.intents import Effect
from sprat_agent.audit.journal import EventWriter, Journal, Room, Watch
from sprat_agent.clock import BUILT_AT, Clock, seconds_since_boot
from sprat_agent.config import RunConfig
from sprat_agent.configured import KeptConfiguration
from sprat_agent.errors import StartupError, StateError
from sprat_agent.identity import audit_keys
from sprat_agent.identity.identity import Identity, IdentityError
from sprat_agent.identity.keys import read_tls
from sprat_agent.identity.renewal import Renewal
from sprat_agent.kept import Kept, kept_blocking
from sprat_agent.link.acknowledged import checked_by
from sprat_agent.link.carrier import Carrier
from sprat_agent.profile import declared, probe, thermal
from sprat_agent.ready_file import ReadyFile
from sprat_agent.registry.device_trust import trust_of
from sprat_agent.registry.fetch import Access, Fetcher, Sources
from sprat_agent.registry.judge import Judge
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.remote import HttpRemote
from sprat_agent.registry.store import PREFIXES, Store
from sprat_agent.registry.trust import Past
from sprat_agent.reserve import Reserve
from sprat_agent.runtime.limits import Limits
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.sd_notify import ServiceManager
from sprat_agent.state import State
from sprat_agent.sync import freshness, phases
from sprat_agent.sync.ageing import Ageing
from sprat_agent.sync.apply import Effects
from sprat_agent.sync.crashes import CrashRows
from sprat_agent.sync.executor import Executor, OnTransition
from sprat_agent.sync.fitting import Fitting
from sprat_agent.sync.intake import Intake
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.loop import Conversation
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.ports import ExecutionError
from sprat_agent.sync.retreat import Retreat
from sprat_agent.sync.room import Recording
from sprat_agent.sync.voice import Speaker, Trust

if TYPE_CHECKING:  # imported while models load, see `_make_api`
    from starlette.types import ASGIApp

    from sprat_agent.api.server import LocalApi
    from sprat_agent.measuring.watch import Measuring

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class World:
    """What the agent takes from outside: time, chance, names, and who watches."""

    clock: Clock
    is_synchronised: Callable[[], bool]  # whether the clock may be believed
    uniform: Callable[[float, float], float]  # as random.uniform
    new_id: Callable[[], str]
    on_transition: OnTransition
    uptime: Callable[[], float] = seconds_since_boot


class Agent:
    """The whole agent; `run` until asked to stop."""

    def __init__(
        self,
        config: RunConfig,
        identity: Identity,
        profile: Profile,
        carriers: tuple[Carrier, ...],
        world: World,
    ) -> None:
        """Open the state and connect the parts; nothing runs yet.

        Raises:
            StartupError: The state folder is in use or cannot be opened, the audit log cannot be
                gone on with, its policy cannot be obeyed, or the local API is to listen beyond
                loopback without what that needs.
        """
        self._config = config
        self._network = network.prepare(config.network)
        self._policy = policy = settings.read_policy(config.audit.policy)
        started = configuration.started_with(settings.settings_of(config), policy.capture)
        self._settings_sha256 = started.digest
        capturing = settings.capturing_of(policy, config.state_dir)
        self._identity = identity
        self._profile = profile
        self._boot_id = world.new_id()
        reserve = Reserve(config.state_dir, config.audit.reserve_bytes)
        self._state = State(config.state_dir, reserve)
        watch = Watch(self._boot_id, world.uptime, world.is_synchronised)
        try:
            room = Room(config.audit.bound_bytes, reserve)
            self._journal = Journal(self._state, world.clock, sealing.of(identity), watch, room)
            self._journal.begin()
            audit_keys.erase_seed(identity.folder)
            configuration.note(self._state, self._journal, started)
            self._events = EventWriter(self._state, self._journal, world.clock)
            self._accounts = Accounts(
                self._state,
                self._journal,
                self._events,
                clock=world.clock,
                draw=lambda: world.uniform(0, 1),
                one_in=policy.one_in,
                capturing=capturing,
            )
        except (IdentityError, StateError, OSError) as error:
            self._state.close()
            raise StartupError(f"the audit log cannot be gone on with: {error}") from error
        self._outbox = Outbox(self._state)
        self._ledger = Ledger(self._state, self._journal, self._outbox, world.clock)
        self._tally = Tally()
        self._ledger.on_failed = self._tally.failed
        crashes = CrashRows(self._state)
        self._workers = Supervisor(
            profile.memory_budget_bytes,
            config.state_dir / "run",
            self._note,
            crashes=crashes,
            limits=Limits(prefix_bytes=config.prefix_bytes),
            prefix_dir=config.state_dir / PREFIXES,
        )
        self._access = Access()
        self._trust = trust_of(
            self._state,
            identity,
            config.state_dir / "scratch",
            HttpRemote(self._access, identity.ca_path),
            lambda floor: freshness.reference_time(
                world.clock(), floor, BUILT_AT, is_synchronised=world.is_synchronised()
            ),
            intents=self._ledger.intents,
        )
        self._store = Store(config.state_dir)
        fetcher = Fetcher(self._access, identity.ca_path)
        self._registry = LocalRegistry(
            self._store,
            fetcher,
            Judge(
                self._trust.director,
                self._trust.image,
                self._trust.remote,
                hardware_id(profile.arch),
                self._past,
            ),
            self._trust.image_anchor,
            hardware_id(profile.arch),
        )
        self._retreat = Retreat(self._ledger, self._registry, self._workers, crashes)
        now = self._trust.director.now
        self._ageing = Ageing(self._ledger, self._workers, self._journal, now)
        self._effects = Effects(
            self._registry,
            self._workers,
            self._ledger,
            fitting=Fitting(self._profile_now, self._registry, self._ledger, self._workers),
            crashes=crashes,
            now=now,
            recording=Recording(self._journal, self._ledger),
        )
        self._intake = Intake(
            identity.device_id,
            identity.group,
            self._trust.director,
            self._trust.image,
            self._trust.remote,
            state=self._state,
            ledger=self._ledger,
            journal=self._journal,
            uniform=world.uniform,
        )
        timekeeper = freshness.Timekeeper(world.clock, world.is_synchronised, world.uptime)
        self._executor = Executor(
            self._ledger,
            self._outbox,
            self._effects,
            self._workers,
            time=lambda: freshness.time_by(timekeeper.now(), now()),
            uniform=world.uniform,
            on_transition=world.on_transition,
            fetched=lambda: fetcher.received,
        )
        self._measuring = self._make_measuring()
        self._conversation = self._converse(carriers, world)
        self._connect()
        self._world = world
        self._ready_file = ReadyFile(config.state_dir)
        self._service_manager = ServiceManager(os.environ)

    async def run(self, stopped: asyncio.Event) -> None:
        """Serve and follow the controller until `stopped` is set.

        Raises:
            StartupError: The local API cannot listen.
        """
        serving = asyncio.create_task(self._serve(), name="agent")
        stopping = asyncio.create_task(stopped.wait(), name="stop")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    def status(self) -> Mapping[str, object]:
        """Return what the device says of itself, besides its models."""
        unfinished = [
            {
                "id": one.execution_id,
                "alias": one.wanted.alias,
                "variant": f"{one.wanted.model}@{one.wanted.release}+{one.wanted.variant}",
                "phase": one.phase,
            }
            for one in self._ledger.executions()
            if not phases.is_final(one.phase)
        ]
        return {
            "device_id": self._identity.device_id,
            "version": __version__,
            "boot_id": self._boot_id,
            "controller": {
                "url": self._identity.controller_url,
                "carrier": self._conversation.carrier or None,
            },
            "profile": msgspec.to_builtins(self._profile_now()),
            "assignment_version": self._ledger.assignment_version(),
            "executions": unfinished,
            "reports": {
                "next_seq": self._outbox.last_seq() + 1,
                "oldest_unacknowledged": self._outbox.oldest_unacknowledged(),
            },
            "audit": {
                "next_seq": self._journal.next_seq(),
                "oldest_unacknowledged": self._journal.oldest_unacknowledged(),
                **self._room(),
                **self._policy.told(),
            },
        }

    def _room(self) -> Mapping[str, object]:
        fill, room = self._journal.fill(), self._journal.room
        return {
            "kept_bytes": fill.kept_bytes,
            "bound_bytes": room.full_bytes,
            "reserve_bytes": room.reserve.held_bytes if room.reserve else 0,
            "refuses_rollouts": fill.is_full or fill.is_short,
        }

    def _figures_blocking(self) -> DeviceFigures:
        """Return the device's own figures; those that the disk does not give now are left out."""
        kept: Mapping[str, Kept] = {}
        try:
            kept = kept_blocking(self._state)
        except StateError as error:
            _LOG.warning("what waits for the controller is not counted: %s", error)
        return DeviceFigures(
            memory_budget_bytes=self._profile.memory_budget_bytes,
            sync_age_s=self._conversation.silence_s,
            kept=kept,
            throttle_ratio=None if self._profile.simulated else thermal.throttle_ratio(),
            tally=self._tally,
        )

    def _note(self, tag: str, subject: str, details: Mapping[str, object]) -> None:
        """Take what happened with models."""
        self._tally.note(tag, details)
        self._events.note(tag, subject, details)

    @property
    def _subject(self) -> str:
        return f"device/{self._identity.device_id}"

    def _converse(self, carriers: tuple[Carrier, ...], world: World) -> Conversation:
        speaker = Speaker(
            self._profile_now,
            self._ledger,
            self._workers,
            outbox=self._outbox,
            journal=self._journal,
            trust=Trust(
                self._trust.director.root_version,
                self._trust.director.version,
                self._ageing.is_stale,
            ),
            version=__version__,
            disk_free=self._disk_free,
            memory_free=probe.memory_available,
        )
        identity = self._identity
        return Conversation(
            carriers,
            speaker.voice(identity.device_id, self._boot_id),
            outbox=self._outbox,
            journal=self._journal,
            check_ack=checked_by(identity.ca_path, identity.device_id, world.clock),
            take=self._intake.take,
            welcomed=self._welcomed,
            uniform=world.uniform,
        )

    def _renewal(self) -> Renewal:
        return Renewal(
            self._identity,
            clock=self._world.clock,
            uniform=self._world.uniform,
            on_renewed=self._conversation.connect_anew,
            intents=self._ledger.intents,
        )

    def _connect(self) -> None:
        """Let the parts wake each other."""
        self._journal.on_append = self._conversation.wake
        self._outbox.on_ready = self._conversation.wake
        self._access.on_refused = self._conversation.ask_for_welcome
        self._executor.on_commit = self._conversation.beat_now
        self._executor.on_rejected = self._conversation.greet_again
        self._workers.on_quarantine = self._retreat.wake
        self._retreat.on_return = self._conversation.beat_now
        self._intake.on_kept = self._plan_kept
        if self._measuring:
            self._measuring.on_measured = self._conversation.greet_again

    def _welcomed(self, welcome: Welcome) -> None:
        sources = Sources(
            tuple(welcome.blob_base_urls),
            welcome.blob_credential,
            tuple(welcome.image_base_urls),
        )
        self._access.grant(sources)
        self._executor.hurry()
        self._intake.hurry()

    def _plan_kept(self) -> None:
        if self._measuring:
            self._measuring.give_way()
        self._executor.wake()
        self._executor.hurry()  # what waited because the plan had expired

    def _past(self, wanted: AssignedModel) -> Past:
        name = f"{wanted.publisher}/{wanted.model}"
        return Past(self._ledger.counter_floor(name), self._ledger.was_proved(wanted.digest))

    def _profile_now(self) -> Profile:
        now = probe.refreshed(self._profile, self._config.state_dir)
        return replace(now, measured=self._measuring.measured) if self._measuring else now

    def _make_measuring(self) -> Measuring | None:
        """Make what measures this device's speed; a declared device has what its file says."""
        engine = probe.engine()
        if self._profile.simulated or not (engine and self._config.is_measured):
            return None
        # A device that is not measured needs nothing of this.
        from sprat_agent.measuring.kept import KeptMeasurement  # noqa: PLC0415
        from sprat_agent.measuring.watch import Measuring, Surroundings  # noqa: PLC0415

        return Measuring(
            self._profile,
            engine,
            KeptMeasurement(self._state),
            self._config.state_dir / "run",
            around=Surroundings(
                self._workers.is_busy,
                self._has_work,
                lambda: os.getloadavg()[0] > self._profile.cores / 2,
                probe.memory_available,
                self._workers.room,
            ),
        )

    def _has_work(self) -> bool:
        return any(not phases.is_final(one.phase) for one in self._ledger.executions())

    def _disk_free(self) -> int:
        return probe.disk_free(self._config.state_dir)

    async def _load_committed(self) -> None:
        """Load what each alias stands for; one that cannot be is audited and does not answer."""
        for committed in self._ledger.committed().values():
            wanted = committed.wanted
            if self._ageing.has_ended(wanted):
                continue
            try:
                installed = await self._registry.open_installed(wanted, committed.context)
            except ExecutionError as error:
                _LOG.error("%s does not answer: %s", wanted.alias, error.message)
                self._note(
                    Tag.MODEL_REFUSED,
                    f"{wanted.model}@{wanted.release}+{wanted.variant}",
                    {
                        "alias": wanted.alias,
                        "digest": wanted.digest,
                        "code": error.code.value,
                        "reason": error.message,
                        "expected": error.expected,
                        "found": error.found,
                    },
                )
                continue
            try:
                await self._workers.load_committed(installed.loadable)
            except ExecutionError as error:
                # The supervisor has audited it and goes on trying where that makes sense.
                _LOG.error("%s does not answer: %s", wanted.alias, error.message)

    def _settle(self) -> Callable[[], None]:
        """Write how ended what the process before this one began, and that settings will change.

        Returns:
            To be called when the settings of this start hold.
        """
        intents = self._ledger.intents
        held = KeptConfiguration(self._state)
        now = self._settings_sha256
        try:
            intents.settle(self._found(held))
            before = held.sha256()
            if before == now:
                return _nothing
            name = f"configuration/{self._identity.device_id}"
            intent = intents.begin(Effect.CONFIGURATION, name, before, now)
        except StateError as error:
            _LOG.error("what was begun before this start is written down at the next: %s", error)
            return _nothing

        def hold() -> None:
            try:
                held.keep(now)
            except StateError as error:
                _LOG.error("that the settings hold is written down at the next start: %s", error)
            else:
                intents.end(intent)

        return hold

    def _found(self, held: KeptConfiguration) -> Mapping[str, Callable[[str], str]]:
        """Return by kind of thing what tells how one is now; see `Intents.settle`."""

        def root(repository: str) -> str:
            is_image = repository == self._trust.image_anchor.repository
            return str((self._trust.image if is_image else self._trust.director).root_version())

        return {
            "alias": self._ledger.stands_for,
            "version": lambda digest: digest if digest in self._store.versions() else "",
            "root": root,
            "certificate": lambda _: read_tls(self._identity.tls_path).serial,
            "configuration": lambda _: held.sha256(),
        }

    async def _serve(self) -> None:
        """Serve until cancelled."""
        api: LocalApi | None = None
        try:
            configuring = self._settle()
            self._events.note(Tag.AGENT_STARTED, self._subject, {"version": __version__})
            self._service_manager.starting("loading models")
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._load_committed(), name="load")
                api = await self._make_api()
            url = await api.start()
            self._ready_file.write(url, self._config.socket)
            configuring()
            self._service_manager.ready(f"serving on {url}")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._service_manager.run(), name="watchdog")
                group.create_task(self._events.run(), name="audit")
                group.create_task(self._accounts.run(), name="accounts")
                group.create_task(self._executor.run(), name="executions")
                group.create_task(self._intake.run(), name="plans")
                group.create_task(self._ageing.run(), name="ageing")
                group.create_task(self._retreat.run(), name="retreat")
                group.create_task(self._renewal().run(), name="certificate")
                group.create_task(self._conversation.run(), name="link")
                if self._measuring:
                    group.create_task(self._measuring.run(), name="measuring")
        finally:
            self._ready_file.remove()
            self._service_manager.stopping()
            if api:
                await api.stop()
            await self._close()

    async def _make_api(self) -> LocalApi:
        """Make the local API; its libraries take a while to import, spent while models load."""
        build_app, make = await asyncio.to_thread(_import_api)
        app = build_app(
            self._workers,
            clock=self._world.clock,
            new_id=self._world.new_id,
            is_simulated=self._profile.simulated,
            status=self.status,
            network=self._network,
            read_device=self._figures_blocking,
            account=self._accounts,
        )
        return make(app, self._config.listen, self._config.socket, self._network)

    async def _close(self) -> None:
        await self._workers.close()
        for write in (self._events.flush, self._accounts.close, self._note_stopped):
            _write_last(write)
        self._state.close()

    def _note_stopped(self) -> None:
        self._journal.append(Tag.AGENT_STOPPED, self._subject, {})


def _write_last(write: Callable[[], object]) -> None:
    """Have the last records of a kind written; once more if the disk was full: see `reserve`."""
    with suppress(StateError):
        write()
        return
    try:
        write()
    except StateError as error:
        _LOG.warning("some of the last audit records are lost: %s", error)


def _nothing() -> None:
    """Nothing was changed."""


def _import_api() -> tuple[Callable[..., ASGIApp], type[LocalApi]]:
    from sprat_agent.api.app import build_app  # noqa: PLC0415 - see `_make_api`
    from sprat_agent.api.server import LocalApi  # noqa: PLC0415

    return build_app, LocalApi


def profile_of(declaration: Path | None, state_dir: Path) -> Profile:
    """Return the declared profile, or what is measured.

    Raises:
        StartupError: The declared profile cannot be read.
    """
    if declaration is None:
        return probe.measure(state_dir)
    try:
        return declared.read(declaration)
    except declared.ProfileError as error:
        raise StartupError(str(error)) from error
