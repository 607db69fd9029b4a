"""The log arrives at real receivers, at least once and in order, whatever they do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from processes import lasting_port, wait_for
from simulators.log_receivers import (
    KEPT_UNREAD,
    RSYSLOGD,
    Collector,
    Rsyslog,
    StreamReceiver,
    rsyslog,
    server_context,
)
from simulators.pki import Pki
from simulators.view_readers import read_cef, read_otlp, read_syslog
from sprat_controller.audit import log
from sprat_controller.audit.forwarding import forwarder, positions, senders
from sprat_controller.audit.forwarding.destination import parse
from sprat_controller.audit.forwarding.forwarder import Forwarder, pause_after
from sprat_controller.audit.forwarding.positions import Numbered
from sprat_controller.audit.forwarding.senders import SendError
from sprat_controller.audit.views.record import Origin
from sprat_controller.errors import StartupError
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditForwarding, AuditRecord
from sprat_proto.audit_events import Tag
from sqlmodel import select

ORIGIN = Origin("ctl.example", "0.1.0")
NOW = datetime(2026, 11, 26, 17, 0, tzinfo=UTC)
# What a receiver must give back as it was.
NASTY = 'two\nlines \x00\x1b[2J \u2028 "q" ] \\ = | 😀 ' + "x" * 20_000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def append(database: Database, count: int, note: str = "") -> None:
    with database.transaction() as session:
        for number in range(count):
            log.append(
                session,
                Tag.TOKEN_CREATED,
                at=NOW,
                actor="user:ann",
                subject=f"token/{number}",
                detail={"note": note} if note else None,
            )


def bodies(database: Database) -> list[bytes]:
    with database.reading() as session:
        return [bytes(one) for one in session.exec(select(AuditRecord.body))]


def position(database: Database) -> int:
    with database.reading() as session:
        return session.exec(select(AuditForwarding.seq)).one()


def seqs(messages: list[bytes]) -> list[int]:
    return [json.loads(read_syslog(message).message or "")["seq"] for message in messages]


def forwarder_to(
    url: str, database: Database, clock: Callable[[], datetime], owner: str = "controller"
) -> Forwarder:
    destination = parse(url)
    sender = senders.make(destination, ORIGIN)
    return Forwarder(destination.name, sender, database, owner, clock, interval_s=0.01)


@contextmanager
def forwarding(
    url: str, database: Database, clock: Callable[[], datetime] | None = None
) -> Generator[Forwarder]:
    made = forwarder_to(url, database, clock or Clock())
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(forwarder, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def receiver() -> Generator[StreamReceiver]:
    made = StreamReceiver()
    yield made
    made.close()


@pytest.fixture
def collector() -> Generator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_the_whole_log_arrives_in_order_and_then_what_comes(
    any_database: Database, receiver: StreamReceiver
) -> None:
    append(any_database, 600)
    with forwarding(f"syslog+tcp://127.0.0.1:{receiver.port}", any_database):
        assert seqs(receiver.take(600)) == list(range(1, 601))
        append(any_database, 3, NASTY)
        messages = receiver.take(3)
        assert [json.loads(read_syslog(one).message or "") for one in messages] == [
            json.loads(body) for body in bodies(any_database)[600:]
        ]
        wait_for("the position is written", lambda: position(any_database) == 603)
    assert receiver.connections == 1


def test_what_was_sent_is_not_sent_again_by_the_next_process(
    database: Database, receiver: StreamReceiver
) -> None:
    append(database, 5)
    url = f"syslog+tcp://127.0.0.1:{receiver.port}"
    with forwarding(url, database):
        receiver.take(5)
        wait_for("the position is written", lambda: position(database) == 5)
    append(database, 1)
    with forwarding(url, database):
        assert seqs(receiver.take(1)) == [6]


def test_a_receiver_that_hangs_up_gets_all_of_it_at_least_once(
    database: Database, receiver: StreamReceiver
) -> None:
    # In the middle of a batch, of which its kernel has room for a part: the sender sees that.
    receiver.hang_up_after = 400
    append(database, 1000, "x" * (8 * KEPT_UNREAD // positions.BATCH))
    with forwarding(f"syslog+tcp://127.0.0.1:{receiver.port}", database):
        received: list[int] = []
        while not received or received[-1] < 1000:
            received += seqs(receiver.take(1))
        wait_for("the position is written", lambda: position(database) == 1000)
    assert receiver.connections >= 3
    firsts = list(dict.fromkeys(received))
    assert firsts == list(range(1, 1001))


def test_a_receiver_that_is_not_there_yet_gets_it_when_it_is(database: Database) -> None:
    append(database, 2)
    port = lasting_port()
    with forwarding(f"syslog+tcp://127.0.0.1:{port}", database) as one:
        wait_for("it fails", lambda: one._failures >= 3)  # pyright: ignore[reportPrivateUsage]
        assert position(database) == 0
        receiver = StreamReceiver(port=port)
        try:
            assert seqs(receiver.take(2)) == [1, 2]
        finally:
            receiver.close()


def test_a_receiver_that_reads_nothing_holds_up_nobody(
    database: Database, receiver: StreamReceiver
) -> None:
    receiver.reads.clear()
    append(database, 300, "x" * 60_000)  # more than kernels keep for a reader
    with forwarding(f"syslog+tcp://127.0.0.1:{receiver.port}", database):
        wait_for("it is connected", lambda: receiver.connections == 1)
        append(database, 10)  # returns, though nothing is read
        assert position(database) < 300
        receiver.reads.set()
        assert seqs(receiver.take(310)) == list(range(1, 311))


def test_stopping_does_not_wait_for_a_receiver_that_reads_nothing(
    database: Database, receiver: StreamReceiver
) -> None:
    receiver.reads.clear()
    append(database, 300, "x" * 60_000)
    one = forwarder_to(f"syslog+tcp://127.0.0.1:{receiver.port}", database, Clock())
    one.start()
    wait_for("it is connected", lambda: receiver.connections == 1)
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    stopping.join(timeout=5)
    assert not stopping.is_alive()


def test_of_controllers_that_share_the_rows_one_sends(
    any_database: Database, receiver: StreamReceiver
) -> None:
    append(any_database, 3)
    clock = Clock()
    url = f"syslog+tcp://127.0.0.1:{receiver.port}"
    first, second = (forwarder_to(url, any_database, clock, name) for name in ("a", "b"))
    for one in (first, second):
        one._position.begin()  # pyright: ignore[reportPrivateUsage]
    assert first.step()
    append(any_database, 1)
    assert not second.step()  # the first has it
    clock.now += positions.CLAIM  # and is gone
    assert second.step()
    append(any_database, 1)
    assert not first.step()
    assert seqs(receiver.take(4)) == [1, 2, 3, 4]
    assert receiver.messages.empty()
    for one in (first, second):
        one._sender.close()  # pyright: ignore[reportPrivateUsage]


def test_who_lost_the_claim_while_sending_does_not_move_the_position(
    any_database: Database,
) -> None:
    place = positions.Position(any_database, "d", "a")
    place.begin()
    assert place.claim(NOW) == 0
    other = positions.Position(any_database, "d", "b")
    assert other.claim(NOW) is None
    later = NOW + positions.CLAIM
    assert other.claim(later) == 0
    assert not place.move(7, later)
    assert other.move(5, later)
    assert position(any_database) == 5
    other.release()
    assert place.claim(later) == 5


def test_who_moves_on_keeps_the_claim(any_database: Database) -> None:
    place = positions.Position(any_database, "d", "a")
    place.begin()
    assert place.claim(NOW) == 0
    halfway = NOW + positions.CLAIM / 2
    assert place.move(5, halfway)
    other = positions.Position(any_database, "d", "b")
    assert other.claim(NOW + positions.CLAIM) is None
    assert other.claim(halfway + positions.CLAIM) == 5


class Refusing:
    def __init__(self, retry_after_s: float | None = None) -> None:
        self._retry_after_s = retry_after_s

    def send(self, bodies: object) -> None:
        del bodies
        raise SendError("it is full", self._retry_after_s)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("wanted_s", "expected_s"), [(None, 0.01), (0.0, 0.01), (77.0, 77.0)])
def test_a_receiver_that_says_when_is_asked_no_sooner(
    database: Database, wanted_s: float | None, expected_s: float
) -> None:
    append(database, 1)
    one = Forwarder("d", Refusing(wanted_s), database, "controller", Clock())
    one._position.begin()  # pyright: ignore[reportPrivateUsage]
    assert one._once() == expected_s  # pyright: ignore[reportPrivateUsage]


def test_that_nobody_else_sees_the_log_is_said_once_a_day(database: Database) -> None:
    append(database, 1)
    clock = Clock()
    one = Forwarder("syslog+tcp://s:1", Refusing(), database, "controller", clock)
    one._position.begin()  # pyright: ignore[reportPrivateUsage]

    def alarms() -> int:
        with database.reading() as session:
            wanted = select(AuditRecord).where(AuditRecord.tag == Tag.FORWARDING_LATE.value)
            return len(session.exec(wanted).all())

    for passed, expected in (
        (timedelta(), 0),
        (forwarder.LATE_AFTER - timedelta(seconds=1), 0),
        (forwarder.LATE_AFTER, 1),
        (forwarder.LATE_AFTER * 2, 1),
        (forwarder.LATE_AFTER + forwarder.ALARM_EVERY, 2),
    ):
        clock.now = NOW + passed
        assert one._once() > 0  # pyright: ignore[reportPrivateUsage]
        assert alarms() == expected, passed
    assert position(database) == 0


class Found:
    """A position that says what it is told to, and what was written down."""

    def __init__(self, records: list[Numbered], at: int | None) -> None:
        self.records, self.at = records, at
        self.moved: list[int] = []

    def begin(self) -> None: ...

    def release(self) -> None: ...

    def claim(self, now: datetime) -> int | None:
        del now
        return self.at

    def next_records(self) -> list[Numbered]:
        return self.records

    def move(self, seq: int, now: datetime) -> bool:
        del now
        self.moved.append(seq)
        return True


class Taken:
    """A receiver that takes everything."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def send(self, bodies: Sequence[bytes]) -> None:
        self.batches.append(list(bodies))

    def close(self) -> None: ...


RECORDS = [Numbered(seq, b"%d" % seq) for seq in (1, 2, 3)]
GONE = [Numbered(seq, b"") for seq in (1, 2, 3)]


@pytest.mark.parametrize(
    ("records", "at", "sent", "moved", "may_be_more"),
    [
        (RECORDS, 0, [[b"1", b"2", b"3"]], [3], True),
        # Another controller sent some, or all, between reading and claiming.
        (RECORDS, 2, [[b"3"]], [3], True),
        (RECORDS, 3, [], [], True),
        (RECORDS, None, [], [], False),
        # What expired is passed over, and is no reason to wait.
        ([RECORDS[0], GONE[1], RECORDS[2]], 0, [[b"1", b"3"]], [3], True),
        (GONE, 0, [], [3], True),
        ([], 0, [], [], False),
    ],
)
def test_a_step_sends_what_is_there_and_was_not_sent(
    database: Database,
    *,
    records: list[Numbered],
    at: int | None,
    sent: list[list[bytes]],
    moved: list[int],
    may_be_more: bool,
) -> None:
    found, taken = Found(records, at), Taken()
    made = Forwarder("it", taken, database, "controller", Clock(), position=found)
    assert made.step() == may_be_more
    assert (taken.batches, found.moved) == (sent, moved)


def test_pauses_double_up_to_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "FIRST_PAUSE_S", 1.0)
    pauses = [pause_after(failures) for failures in range(1, 12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert pause_after(10**9) == 300


def test_tls_holds_who_receives_to_its_certificate(database: Database, tmp_path: Path) -> None:
    pki, stranger = Pki(), Pki("stranger")
    ca, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    ca.write_bytes(pki.root_pem)
    other.write_bytes(stranger.root_pem)
    client = pki.client("controller")
    (tmp_path / "own.pem").write_bytes(client.certificate_pem)
    (tmp_path / "own.key").write_bytes(client.key_pem)
    append(database, 3, NASTY)
    receiver = StreamReceiver(server_context(tmp_path, pki.server(), ca))
    try:
        base = f"syslog+tls://127.0.0.1:{receiver.port}"
        own = f"certificate={tmp_path}/own.pem&key={tmp_path}/own.key"
        for refused in (f"{base}?ca={other}&{own}", f"{base}?ca={ca}"):
            sender = senders.make(parse(refused), ORIGIN)
            with pytest.raises(SendError, match=r"syslog\+tls"):
                sender.send(bodies(database))
            sender.close()
        assert receiver.messages.empty()
        with forwarding(f"{base}?ca={ca}&{own}&content=cef", database):
            messages = receiver.take(3)
    finally:
        receiver.close()
    records = [
        json.loads(read_cef((read_syslog(one).message or "").encode()).extension["spratRecord"])
        for one in messages
    ]
    assert records == [json.loads(body) for body in bodies(database)]


def test_a_file_that_cannot_be_read_is_named_at_the_start(tmp_path: Path) -> None:
    for url in (
        f"syslog+tls://s?ca={tmp_path}/none.pem",
        f"otlp+http://s?headers={tmp_path}/none",
    ):
        with pytest.raises(StartupError, match="none"):
            senders.make(parse(url), ORIGIN)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("bad", "no colon"),
        (": secret", "no name of a header"),
        ("b d: secret", "no name of a header"),
        ("é: secret", "no name of a header"),
        ("bad: sécret", "not printable ASCII"),
        ("bad: sec\0ret", "not printable ASCII"),
        ("bad:", "not printable ASCII"),
        ("Content-Type: secret", "Content-Type, which the controller sets itself"),
        ("content-length: 3", "which the controller sets itself"),
    ],
)
def test_a_header_that_is_none_is_told_without_its_value(
    tmp_path: Path, line: str, why: str
) -> None:
    (tmp_path / "headers").write_text(f"good: one\n{line}\n")
    with pytest.raises(StartupError, match="line 2: expected `Name: value`") as refused:
        senders.make(parse(f"otlp+http://s?headers={tmp_path}/headers"), ORIGIN)
    assert why in refused.value.message
    assert "ecret" not in refused.value.message


@pytest.mark.parametrize("transport", ["syslog+udp", "syslog+tcp", "otlp+http"])
@pytest.mark.parametrize("host", ["a" * 70, "xn--zz--", "a..b"])
def test_what_is_no_name_of_a_host_is_no_crash(transport: str, host: str) -> None:
    sender = senders.make(parse(f"{transport}://{host}:9"), ORIGIN)
    with pytest.raises(SendError, match=host):
        sender.send([b'{"seq":1}'])
    sender.close()


def test_otlp_sends_batches_with_the_headers_of_a_file(
    any_database: Database, collector: Collector, tmp_path: Path
) -> None:
    (tmp_path / "headers").write_text("authorization: Bearer abc\n\n")
    append(any_database, 300, "é\n")
    url = f"otlp+http://127.0.0.1:{collector.port}?headers={tmp_path}/headers"
    with forwarding(url, any_database):
        (path, headers, body), (_, _, rest) = collector.take(), collector.take()
    assert path == "/v1/logs"
    assert headers["authorization"] == "Bearer abc"
    assert headers["content-type"] == "application/json"
    records = read_otlp(body) + read_otlp(rest)
    assert [json.loads(one["body"]) for one in records] == [
        json.loads(one) for one in bodies(any_database)
    ]


@pytest.mark.parametrize(
    "answer",
    [
        (503, {}, b""),
        (429, {"retry-after": "0"}, b"slow down"),
        (400, {}, b"{}"),
        (200, {}, b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no"}}'),
        (200, {}, b"<html>"),
        (302, {"location": "http://127.0.0.1:1/"}, b""),
    ],
)
def test_what_a_collector_did_not_take_is_sent_again(
    database: Database, collector: Collector, answer: tuple[int, dict[str, str], bytes]
) -> None:
    collector.answers = [answer, answer]
    append(database, 4)
    with forwarding(f"otlp+http://127.0.0.1:{collector.port}", database):
        sent = [read_otlp(collector.take()[2]) for _ in range(3)]
        wait_for("the position is written", lambda: position(database) == 4)
    assert sent[0] == sent[1] == sent[2]


def test_where_records_go_is_said_in_one_place(
    database: Database, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    append(database, 1)
    sender = senders.make(parse(f"otlp+http://127.0.0.1:{collector.port}"), ORIGIN)
    sender.send(bodies(database))
    assert len(read_otlp(collector.take()[2])) == 1
    sender.close()


def test_a_collector_says_when_to_come_again(collector: Collector) -> None:
    collector.answers = [(429, {"retry-after": "17"}, b"")]
    sender = senders.make(parse(f"otlp+http://127.0.0.1:{collector.port}"), ORIGIN)
    with pytest.raises(SendError) as found:
        sender.send([b"{}"])
    assert found.value.retry_after_s == 17
    sender.close()


def test_otlp_over_https(database: Database, tmp_path: Path) -> None:
    pki = Pki()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pki.root_pem)
    append(database, 2)
    collector = Collector(server_context(tmp_path, pki.server()))
    try:
        with forwarding(f"otlp+https://127.0.0.1:{collector.port}?ca={ca}", database):
            assert len(read_otlp(collector.take()[2])) == 2
    finally:
        collector.close()


needs_rsyslog = pytest.mark.skipif(RSYSLOGD is None, reason="rsyslogd is not installed")


def check_rsyslog(got: Rsyslog, database: Database) -> None:
    expected = [json.loads(body) for body in bodies(database)]
    for found, record in zip(got.take(len(expected)), expected, strict=True):
        assert json.loads(found["msg"].removeprefix("\ufeff")) == record
        assert (found["pri"], found["hostname"], found["app-name"]) == (
            "110",
            "ctl.example",
            "sprat",
        )
        assert found["msgid"] == record["tag"]
        assert found["structured-data"].startswith('[sprat@32473 log="controller" seq="')
        assert datetime.fromisoformat(found["timestamp"]) == NOW


@needs_rsyslog
def test_rsyslog_understands_it_over_tcp(database: Database, tmp_path: Path) -> None:
    append(database, 20)
    append(database, 1, NASTY)
    port = lasting_port()
    inputs = f'module(load="imtcp")\ninput(type="imtcp" port="{port}" address="127.0.0.1")'
    with (
        rsyslog(tmp_path, inputs) as got,
        forwarding(f"syslog+tcp://127.0.0.1:{port}", database),
    ):
        check_rsyslog(got, database)


@needs_rsyslog
def test_rsyslog_understands_it_over_tls(database: Database, tmp_path: Path) -> None:
    # Not more than a TLS record holds: what is behind it, this rsyslog may leave for later.
    append(database, 5, NASTY[:40])
    pki, port = Pki(), lasting_port()
    server_context(tmp_path, pki.server())
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pki.root_pem)
    inputs = f"""
global(defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{tmp_path}/receiver.pem"
  defaultNetstreamDriverKeyFile="{tmp_path}/receiver.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" port="{port}" address="127.0.0.1")"""
    with (
        rsyslog(tmp_path, inputs) as got,
        forwarding(f"syslog+tls://127.0.0.1:{port}?ca={ca}", database),
    ):
        check_rsyslog(got, database)


def test_over_udp_a_record_is_a_datagram_and_a_long_one_says_what_was_cut(
    database: Database,
) -> None:
    append(database, 2)
    append(database, 1, "x" * 70_000)
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        with forwarding(f"syslog+udp://127.0.0.1:{receiver.getsockname()[1]}", database):
            first, second, third = (receiver.recv(70_000) for _ in range(3))
    assert seqs([first, second]) == [1, 2]
    said = read_syslog(third)
    assert said.message is None
    assert said.data["sprat@32473"]["seq"] == "3"
    assert int(said.data["sprat@32473"]["cut"]) > 70_000
