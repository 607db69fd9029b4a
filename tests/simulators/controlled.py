"""A controller's rollout engine in this process, and devices that speak with it as agents do.

The database, service, runner and conversation are the real ones. `SimDevice` keeps what an agent
keeps on disk and follows the agent's rules: one execution per id, never run again; what is no
longer wanted ends as CANCELED; reports are numbered and kept until acknowledged.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sprat_controller.access.blob_credentials import BlobCredentials
from sprat_controller.audit.denials import Denials
from sprat_controller.fleet.ca import KeyPair
from sprat_controller.link.acknowledge import Acknowledger
from sprat_controller.link.conversation import Conversation, Welcoming
from sprat_controller.rollout.authors import Standing
from sprat_controller.rollout.book import Book
from sprat_controller.rollout.records import wake
from sprat_controller.rollout.requests import (
    ExecutionView,
    PlanRequest,
    RolloutRequest,
    RolloutView,
    Target,
)
from sprat_controller.rollout.runner import Runner
from sprat_controller.rollout.service import RolloutService
from sprat_controller.rollout.sql_book import Around, SqlBook
from sprat_controller.schedule.leases import Leases
from sprat_controller.store import tables
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import (
    AuditRecord,
    Device,
    DeviceLabel,
    Execution,
    Publisher,
    Release,
    Rollout,
    Variant,
)
from sprat_proto import approval, assignment, manifest, trust
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.audit_events import Tag
from sprat_proto.capability import CAPABILITY
from sprat_proto.fit import MIB
from sprat_proto.states import ExecutionState
from sprat_proto.v1 import link_pb2
from sqlalchemy import event
from sqlmodel import SQLModel, col, select

from simulators.pki import Pki
from simulators.plain_signer import PlainSigner, plan_version, read_plan
from simulators.sealed import KEY_PEM, SEED

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MODEL = "talk"
ALIAS = "assistant"
# Variant by weight, in MiB.
WEIGHTS = {"q8_0": 200, "q4_0": 100}
BIG, SMALL, TINY = 1000 * MIB, 200 * MIB, 100 * MIB  # memory budgets: q8_0, q4_0, nothing
OPERATOR = "token:ann"
PKI = Pki()
TOO_LARGE = link_pb2.Reason(
    code="INSUFFICIENT_MEMORY", message="it is too large", expected="1 byte", found="2 bytes"
)


class KilledError(BaseException):
    """kill -9: nothing catches it, and nothing after it happens."""


class World:
    """A controller whose time, ids and pushes belong to the test; one at a time."""

    def __init__(self, database: Database | None = None) -> None:
        """Empty the rows and begin.

        Args:
            database: Has all tables; None: the one of this process, SQLite in memory.
        """
        self.database = database or _database()
        with self.database.transaction() as session:
            for table in reversed(SQLModel.metadata.sorted_tables):
                session.connection().execute(table.delete())
        self.now = START
        self.ids = itertools.count(1)
        self.pushed: list[tuple[str, link_pb2.ControllerMessage]] = []
        self.woken = 0
        self.policy = approval.NOBODY
        self.standing: Standing | None = None
        self.signer = PlainSigner(self.clock)
        self.credentials = BlobCredentials(b"s" * 32)
        self._open()

    def _open(self) -> None:
        self.service = RolloutService(
            self.database, self.clock, self.new_id, self.wake, lambda _: self.policy
        )
        self.runner = self.a_runner("controller")
        self.conversation = Conversation(
            self.database,
            self.clock,
            signer=self.signer,
            acknowledger=Acknowledger(_controller_certificate()),
            credentials=self.credentials,
            denials=Denials(self.database),
            welcoming=Welcoming(60, ["https://c.test:7770/blobs"], ["https://c.test:7770/image"]),
            on_progress=self.wake,
        )

    def a_runner(self, owner: str) -> Runner:
        """Return the runner of a controller of this name, which was just started."""
        leases = self._leases(owner)
        around = self._around(leases)
        return Runner(leases, lambda lease: SqlBook(around, lease))

    @contextmanager
    def book(self, rollout_id: str) -> Generator[Book]:
        """Yield the book of one rollout, due or not; afterwards it is due."""
        leases = self._leases("controller")
        with self.database.transaction() as session:
            wake(session, rollout_id, self.now)
        lease = leases.claim(
            self.now, [one.id for one in self.service.list() if one.id != rollout_id]
        )
        assert lease is not None
        yield SqlBook(self._around(leases), lease)
        self._leases("controller")

    def _around(self, leases: Leases) -> Around:
        return Around(
            self.database,
            self.signer,
            self._push,
            leases,
            self.new_id,
            lambda _: self.policy,
            self.standing,
        )

    def _leases(self, owner: str) -> Leases:
        leases = Leases(self.database, tables.of(Rollout), owner, self.clock)
        leases.forget_own()
        return leases

    def close(self) -> None:
        self.database.close()

    def clock(self) -> datetime:
        return self.now

    def new_id(self) -> str:
        return f"id-{next(self.ids):05}"

    def wake(self) -> None:
        self.woken += 1

    def _push(self, device_id: str, message: link_pb2.ControllerMessage) -> None:
        self.pushed.append((device_id, message))

    def run_due(self) -> None:
        self.runner.run_due(self.now)

    def wait(self, **much: float) -> None:
        self.now += timedelta(**much)

    @contextmanager
    def killed_after(self, statements: int) -> Generator[None]:
        """Kill the controller at the given statement or commit; then it is started anew."""
        left = itertools.count(statements, -1)

        def kill(*_: object) -> None:
            if next(left) == 0:
                raise KilledError

        names = ("before_cursor_execute", "commit")
        for name in names:
            event.listen(self.database.engine, name, kill)
        is_killed = False
        try:
            yield
        except KilledError:
            is_killed = True
            raise
        finally:
            for name in names:
                event.remove(self.database.engine, name, kill)
            if is_killed:
                self._open()

    def publish(self, release: str, *, model: str = MODEL, counter: int = 1) -> dict[str, str]:
        """Keep a release and return its digests by variant."""
        digests: dict[str, str] = {}
        with self.database.transaction() as session:
            session.merge(Publisher(name="ann", key_ids=["k"], created_at=self.now))
            session.add(
                Release(
                    model=model,
                    release=release,
                    counter=counter,
                    created_at=self.now,
                    pushed_by=OPERATOR,
                )
            )
            session.flush()
            for name, weight in WEIGHTS.items():
                made = a_manifest(name, weight, model=model, release=release, counter=counter)
                body = manifest.encode(made)
                digests[name] = hashlib.sha256(body).hexdigest()
                session.add(
                    Variant(
                        digest=digests[name],
                        model=model,
                        release=release,
                        variant=name,
                        manifest=body,
                        publisher="ann",
                    )
                )
        return digests

    def enrol(self, device_id: str, **labels: str) -> None:
        """Keep a device that has not said anything yet."""
        with self.database.transaction() as session:
            session.add(
                Device(
                    id=device_id,
                    state="REGISTERED",
                    key_sha256="a" * 64,
                    audit_key=KEY_PEM,
                    audit_seed=SEED,
                    enrolled_at=self.now,
                )
            )
            session.flush()
            for key, value in labels.items():
                session.add(DeviceLabel(device_id=device_id, key=key, value=value))

    def join(self, device_id: str, budget: int = BIG, **labels: str) -> SimDevice:
        """Enrol a device and let it say Hello."""
        self.enrol(device_id, **labels)
        device = SimDevice(self, device_id, budget)
        device.hello()
        return device

    def create(self, release: str = "1.0.0", *, start: bool = True, **options: Any) -> RolloutView:
        """Create a rollout and start it."""
        what = PlanRequest(
            options.pop("model", MODEL),
            release,
            options.pop("alias", ALIAS),
            options.pop("target", Target()),
            options.pop("context", 256),
            options.pop("terms", AS_DEVICE_DECIDES),
            options.pop("policy", None),
        )
        view = self.service.create(RolloutRequest(what, **options), OPERATOR)
        return self.service.start(view.id, OPERATOR) if start else view

    def state(self, rollout_id: str) -> str:
        return self.service.get(rollout_id).state

    def states(self, rollout_id: str) -> dict[str, ExecutionState]:
        return {one.device_id: one.state for one in self.service.executions(rollout_id)}

    def device(self, device_id: str) -> Device:
        with self.database.reading() as session:
            device = session.exec(select(Device).where(col(Device.id) == device_id)).one()
            session.expunge(device)
            return device

    def remove(self, device_id: str) -> None:
        with self.database.transaction() as session:
            device = session.get(Device, device_id)
            assert device is not None
            device.revoked_at = self.now

    def audited(self, tag: Tag) -> list[dict[str, Any]]:
        """Return the controller's own audit records of one kind, oldest first."""
        with self.database.reading() as session:
            found = select(AuditRecord.body).where(col(AuditRecord.tag) == tag.value)
            return [json.loads(body) for body in session.exec(found.order_by(col(AuditRecord.seq)))]

    def first_execution(self, rollout_id: str) -> ExecutionView:
        return self.service.executions(rollout_id)[0]

    def under_way(self) -> tuple[SimDevice, str, str]:
        """Return a device with one execution IN_PROGRESS, its rollout's and its execution's id."""
        device = self.join("a")
        view = self.create()
        self.run_due()
        return device, view.id, self.first_execution(view.id).id

    def executions(self) -> list[tuple[Execution, Rollout]]:
        with self.database.reading() as session:
            both = select(Execution, Rollout).join(
                Rollout, col(Rollout.id) == col(Execution.rollout_id)
            )
            found = list(session.exec(both).all())
            session.expunge_all()
            return found


@dataclass
class SimDevice:
    """What an agent keeps, and how it goes on from there."""

    world: World
    id: str
    budget: int
    assignment: assignment.Assignment | None = None
    committed: dict[str, assignment.AssignedModel] = field(default_factory=dict[str, Any])
    known: dict[str, ExecutionState] = field(default_factory=dict[str, ExecutionState])
    aliases: dict[str, str] = field(default_factory=dict[str, str])  # of executions
    runs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    reports: list[link_pb2.Report] = field(default_factory=list[link_pb2.Report])
    last_seq: int = 0
    plan_version: int = 0
    carrier: str = "grpc"
    capability: int = CAPABILITY
    # What it says of what fails, and the digests of models that it fetched, in order.
    complaint: str = "PROBE_FAILED"
    fetched: list[str] = field(default_factory=list[str])

    @property
    def version(self) -> int:
        return self.assignment.version if self.assignment else 0

    def hello(self, **fields: Any) -> list[link_pb2.ControllerMessage]:
        """Say Hello and take in the answers."""
        hello = link_pb2.Hello(
            capability=self.capability,
            agent_version="0.1.0",
            profile=a_profile(self.budget),
            assignment_version=self.version,
            running=self.running(),
            next_report_seq=self.reports[0].seq if self.reports else self.last_seq + 1,
            next_audit_seq=1,
            director_version=self.plan_version,
            newest_report_seq=self.last_seq,
        )
        for name, value in fields.items():
            setattr(hello, name, value)
        return self.say(hello=hello)

    def heartbeat(self) -> list[link_pb2.ControllerMessage]:
        """Say what runs and take in the answers."""
        return self.say(heartbeat=self.a_heartbeat())

    def a_heartbeat(self) -> link_pb2.Heartbeat:
        return link_pb2.Heartbeat(
            assignment_version=self.version,
            running=self.running(),
            director_version=self.plan_version,
            newest_report_seq=self.last_seq,
        )

    def running(self) -> list[link_pb2.RunningModel]:
        return [
            link_pb2.RunningModel(
                alias=alias,
                model=one.model,
                release=one.release,
                variant=one.variant,
                digest=one.digest,
                state="LOADED",
            )
            for alias, one in sorted(self.committed.items())
        ]

    def say(self, *, heard: bool = True, **body: Any) -> list[link_pb2.ControllerMessage]:
        """Send one message; the answers are lost unless `heard`."""
        message = link_pb2.DeviceMessage(boot_id="boot", **body)
        answers = self.world.conversation.receive(self.id, self.carrier, message)
        for answer in answers if heard else []:
            self.hear(answer)
        return answers

    def hear(self, message: link_pb2.ControllerMessage) -> None:
        """Take in one message, as an agent does."""
        if message.HasField("report_ack"):
            kept = message.report_ack.up_to
            self.reports = [one for one in self.reports if one.seq > kept]
        elif message.HasField("assignment"):
            self._take(message.assignment)

    def _take(self, plan: link_pb2.Assignment) -> None:
        """Obey a plan of a higher version; keep the metadata of one that was only renewed."""
        wanted = read_plan(plan)
        assert wanted.device_id == self.id
        if plan_version(plan) <= self.plan_version or wanted.version < self.version:
            return
        self.plan_version = plan_version(plan)
        self.assignment, before = wanted, self.version
        if wanted.version > before:
            self._obey(wanted)

    def _obey(self, wanted: assignment.Assignment) -> None:
        assigned = {one.execution_id for one in wanted.models}
        for execution_id, state in list(self.known.items()):
            if not state.is_final and execution_id not in assigned:
                self._move(execution_id, ExecutionState.CANCELED, self.aliases[execution_id])
        aliases = {one.alias for one in wanted.models}
        for alias in set(self.committed) - aliases:
            del self.committed[alias]
        for one in wanted.models:
            if one.execution_id not in self.known:
                self._move(one.execution_id, ExecutionState.IN_PROGRESS, one.alias)
                now = self.committed.get(one.alias)
                if now and (now.digest, now.terms) == (one.digest, one.terms):
                    self._move(one.execution_id, ExecutionState.SUCCEEDED, one.alias)

    def under_way(self) -> list[assignment.AssignedModel]:
        """Return what is assigned and not ended."""
        models = self.assignment.models if self.assignment else []
        return [one for one in models if not self.known[one.execution_id].is_final]

    def finish(self, state: ExecutionState = ExecutionState.SUCCEEDED) -> None:
        """Carry all that is under way to its end."""
        for one in self.under_way():
            self.runs[one.execution_id] += 1
            if one.digest not in self.fetched:
                self.fetched.append(one.digest)
            if state is ExecutionState.SUCCEEDED:
                self.committed[one.alias] = one
            self._move(one.execution_id, state, one.alias)

    def _move(self, execution_id: str, state: ExecutionState, alias: str) -> None:
        self.known[execution_id], self.aliases[execution_id] = state, alias
        running = self.committed.get(alias)
        said = link_pb2.ExecutionReport(
            execution_id=execution_id,
            state=state,
            step="DOWNLOADING" if state is ExecutionState.IN_PROGRESS else "",
            running_digest=running.digest if running else "",
        )
        if state in (ExecutionState.FAILED, ExecutionState.ROLLED_BACK):
            said.reason.CopyFrom(link_pb2.Reason(code=self.complaint, message="it babbles"))
        if state is ExecutionState.REJECTED:
            said.reason.CopyFrom(TOO_LARGE)
        self.last_seq += 1
        self.reports.append(link_pb2.Report(seq=self.last_seq, at_ms=0, execution=said))

    def send_reports(self) -> None:
        """Send all that is not acknowledged, in order."""
        for report in list(self.reports):
            self.say(report=report)

    def sync(self, state: ExecutionState = ExecutionState.SUCCEEDED) -> None:
        """Do all that an agent online does: hear, obey, finish, report, tell what runs."""
        self.heartbeat()
        self.finish(state)
        self.send_reports()
        self.heartbeat()


def a_profile(budget: int, **changes: Any) -> link_pb2.HardwareProfile:
    """Return a device's hardware with this memory budget."""
    fields: dict[str, Any] = {
        "arch": "x86_64",
        "cores": 4,
        "cpu_features": ["avx2"],
        "memory_bytes": 2 * budget,
        "memory_budget_bytes": budget,
        "disk_free_bytes": 4000 * MIB,
        "os": "linux",
        "runtimes": ["llama.cpp"],
    }
    return link_pb2.HardwareProfile(**{**fields, **changes})


def a_manifest(
    variant: str, weight_mib: int, *, model: str, release: str, counter: int
) -> manifest.Manifest:
    """Return a manifest whose weights take so many MiB."""
    size = weight_mib * MIB
    shard = manifest.Shard(0, "c" * 64, size, 1 << 20, ["d" * 64] * weight_mib)
    return manifest.Manifest(
        schema=manifest.SCHEMA,
        publisher="ann",
        model=model,
        release=release,
        release_counter=counter,
        variant=variant,
        hardware_ids=list(trust.HARDWARE_IDS),
        runtime="llama.cpp",
        min_runtime="0.3.36",
        created="2026-11-23T12:00:00Z",
        source=manifest.Source("b" * 64, size),
        slots=[manifest.Slot(0, ["*"])],
        shards=[shard],
        deltas=[],
        adapters=[],
        encodings=["raw"],
        facts=manifest.Facts(
            architecture="llama",
            quantization=variant,
            parameters=100_000_000,
            weights_bytes=size,
            layers=2,
            embedding_length=64,
            heads=4,
            kv_heads=2,
            key_length=16,
            value_length=16,
            vocabulary=258,
            context_length=512,
        ),
        chat_template="",
        activation=manifest.Activation(),
        disk_needed=size,
    )


@cache
def _controller_certificate() -> KeyPair:
    return PKI.client("controller")


@cache
def _database() -> Database:
    """Return the one database of this process: statements are compiled once for all worlds."""
    # Thousands of commits, and no power is cut here: in memory where there is such a place.
    in_memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes an own folder in it
    place = in_memory if in_memory.is_dir() else None
    folder = tempfile.mkdtemp(prefix="sprat-world-", dir=place)
    atexit.register(shutil.rmtree, folder)
    made = Database(sqlite_url(Path(folder) / "controller.db"))
    SQLModel.metadata.create_all(made.engine)
    return made
