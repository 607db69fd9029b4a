"""The runbook as it is printed: each section's commands, one after the other, on one controller."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from simulators.image_keys import NOW, ImageKeys, ImageSigner
from simulators.operator_api import ADMIN, URL, OperatorApi, RefusalError
from simulators.signer_folder import SignerMade
from simulators.sprat_command import Said, Sprat
from sprat_controller.errors import SpratError
from sprat_controller.publisher.signing import generate_key_files, load_key
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.signer import main as signer_main
from sprat_controller.signer.keys import Place, open_key, tuf_signer
from sprat_controller.store.session import Database
from sprat_controller.trust import ceremony, dry_run, repository
from sprat_controller.trust.folder import TIMESTAMP, Metadata
from sprat_controller.trust.repository import Upload
from sprat_controller.trust.words import MetadataError, read, seal
from sprat_proto import approval, bundle
from sprat_proto.assignment import Assignment, Policy
from sprat_proto.bundle import OfflineRole
from sprat_proto.trust import DIRECTOR, IMAGE, Repository, manifest_path
from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook-trust.md"
SECTIONS = dict(
    re.findall(r"^## (.+?)\n.*?```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
)
ACME = manifest_path("acme", "talk", "1.0.0", "q4_0")
FAST_FORWARD = 1 << 31


class World:
    """A controller behind its API, holders with their keys, and a device that was there before."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.blobs = BlobStore(folder / "blobs")
        self.key_folder, self.signer_folder = folder / "keys", folder / "signer"
        self.key_folder.mkdir()
        self.signer_folder.mkdir()
        keys = ImageKeys()
        keys.root, keys.targets, keys.director_root = (
            {f"{role}-{number}": self.new_key(f"{role}-{number}") for number in (1, 2, 3)}
            for role in ("image-root", "image-targets", "director-root")
        )
        self.keys, self.acme = keys, self.new_key("acme")
        self.signer = ImageSigner(keys.online, keys.director)
        self.api = OperatorApi()
        self.api.on_metadata = self.publish
        environ = {"SPRAT_URL": URL, "SPRAT_TOKEN": ADMIN, "HOME": str(folder)}
        self.sprat = Sprat(self.api, environ, now=NOW)
        self.found()

    def new_key(self, name: str) -> Signer:
        generate_key_files(self.key_folder / name, None)
        return self.key(name)

    def key(self, name: str) -> Signer:
        return tuf_signer(open_key(Place(f"file:{name}.pem", self.key_folder, None)))

    def found(self) -> None:
        founded = self.keys.found()
        files = {name: founded[name] for name in ("1.root.json", "1.targets.json")}
        with self.database.transaction() as session:
            director = self.keys.found_director()
            repository.found(session, self.signer, {IMAGE: files, DIRECTOR: director}, NOW)
        top = ceremony.next_targets(
            read(files["1.targets.json"], Targets, "targets").signed, expires=NOW + timedelta(365)
        )
        ceremony.delegate(top, "acme", [self.acme.public_key])
        self.publish(IMAGE, {"2.targets.json": seal(top, self.keys.targets.values())})
        target = TargetFile(10, {"sha256": "a" * 64}, ACME)
        custom = {"name": "acme/talk", "release_counter": 1, "hardware_ids": ["cpu-x86_64"]}
        target.unrecognized_fields["custom"] = custom
        role = Targets(version=1, expires=NOW + timedelta(365), targets={ACME: target})
        self.publish(IMAGE, {"1.pub-acme.json": seal(role, [self.acme])})

    def publish(self, which: str, files: dict[str, bytes]) -> None:
        name: Repository = IMAGE if which == IMAGE else DIRECTOR
        for sha256, data in self.api.blobs.items():
            if not self.blobs.path(sha256).exists():
                upload = self.blobs.begin(sha256, len(data))
                upload.write(data)
                upload.finish()
        try:
            with self.database.transaction() as session:
                upload = Upload(name, files, "token:ann", NOW)
                repository.publish(session, self.signer, self.blobs, upload)
        except SpratError as error:
            raise RefusalError(error.status, error.code, error.message) from error
        for one in (IMAGE, DIRECTOR):
            self.api.trust[one] = dict(self.current(one).files)

    def current(self, name: Repository = IMAGE) -> Metadata:
        with self.database.reading() as session:
            return repository.current(session, name)

    def run(self, line: str) -> Said | None:
        """Run one line of the runbook; the signer's own commands are done to the simulator."""
        program, *words = shlex.split(self.placed(line))
        if program == "sprat":
            return self.sprat(*words)
        assert program == "sprat-signer"
        self._signer(words[0], words[1])
        return None

    def placed(self, line: str) -> str:
        """Return the line with this world's folders in it."""
        places = {
            "$STICK": self.folder / "stick",
            "$KEYS": self.key_folder,
            "$SIGNER": self.signer_folder,
        }
        for name, place in places.items():
            line = line.replace(name, str(place))
        return line

    def _signer(self, verb: str, name: str) -> None:
        following = f"{name}.next"
        if verb == "new-key":
            generate_key_files(self.signer_folder / following, None)
            return
        assert verb == "use-key"
        key = tuf_signer(open_key(Place(f"file:{following}.pem", self.signer_folder, None)))
        if name == "image-online":
            self.signer.key = key
        else:
            self.signer.director = key
        for path in self.signer_folder.glob(f"{following}.*"):
            path.unlink()

    def play(self, section: str) -> list[Said]:
        said = [self.run(line) for line in SECTIONS[section].splitlines()]
        done = [one for one in said if one is not None]
        for one in done:
            assert one.status == 0, one
        return done

    def device(self) -> dict[str, bytes]:
        """Return what a device that is up to date has in its cache."""
        metadata = self.current()
        names = ("snapshot", "targets", "pub-acme")
        cached = {f"{name}.json": metadata.newest(name)[1] for name in names}
        return cached | {TIMESTAMP: metadata.files[TIMESTAMP]}

    def refresh(self, cached: Mapping[str, bytes]) -> None:
        """Let a device go on from what it has, by the root it was made with."""
        files = self.current().files
        found = dry_run.dry_run(
            files, files["1.root.json"], now=NOW, cached=dict(cached), paths=[ACME]
        )
        assert found[ACME] is not None


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


CEREMONIES = [name for name in SECTIONS if "sprat trust ceremony" in SECTIONS[name]]


def test_the_runbook_has_every_ceremony() -> None:
    assert len(CEREMONIES) == 8
    assert len(SECTIONS) == 11


def test_the_audit_logs_key_is_replaced_as_it_says(tmp_path: Path) -> None:
    made = SignerMade(tmp_path)
    made.folder.open(lambda: NOW).close()
    said = (
        RUNBOOK.read_text()
        .partition("## The audit log's key is replaced\n")[2]
        .partition("\n## ")[0]
    )
    lines = "".join(re.findall(r"```sh\n(.*?)```", said, re.DOTALL)).splitlines()
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("$SIGNER", str(tmp_path)))
        assert words[0] == "sprat-signer"
        assert signer_main.main(words[1:]) == 0
    assert not made.folder.key_file("audit-log.old").exists()


@pytest.mark.parametrize("section", CEREMONIES)
def test_each_section_goes_through_and_a_device_with_the_old_state_follows(
    world: World, section: str
) -> None:
    before = world.device()
    world.play(section)
    world.refresh(before)
    world.refresh({})


def test_the_whole_runbook_goes_through_on_one_controller(world: World) -> None:
    before = world.device()
    skipped = "A release manager's key (image-targets) is replaced"
    for section in CEREMONIES:
        if section != skipped:  # its key is the next section's
            world.play(section)
    world.refresh(before)
    assert len(world.current().versions("root")) == 5
    assert len(world.current(DIRECTOR).versions("root")) == 5


def test_the_plan_is_said_in_words(world: World) -> None:
    said = world.play("A holder of a root key leaves, or the key is lost")
    plan = next(one for one in said if "image root: version 1 -> 2" in one.output).output
    assert re.search(r"root: out image-root-2 \(\w{12}\)", plan)
    assert re.search(r"root: in image-root-4 \(\w{12}\)", plan)
    assert "2 of the keys so far: image-root-1" in plan
    assert "2 of the new keys: image-root-1" in plan
    assert "signatures that are needed:" in plan
    assert (world.folder / "stick" / "staged" / "plan.txt").exists()


OFFLINE = "Who may sign bundles for groups"


def offline_role(world: World) -> OfflineRole | None:
    root = read(world.current(DIRECTOR).newest("root")[1], Root, "root").signed
    return bundle.role_of(root.unrecognized_fields.get("custom"))


def test_a_new_controller_names_nobody_who_speaks_to_groups(world: World) -> None:
    assert offline_role(world) is None


def test_two_people_are_named_who_speak_to_groups_offline(world: World) -> None:
    said = world.play(OFFLINE)
    role = offline_role(world)
    assert role is not None
    assert role.threshold == 2
    pems = {
        load_key(world.key_folder / f"offline-{number}.pem", None).public_pem for number in (1, 2)
    }
    assert {one.public_pem for one in role.keys} == pems
    plan = next(one for one in said if "director root: version 1 -> 2" in one.output).output
    assert re.search(r"offline: nobody -> 2 of ann \(\w{12}\), bob \(\w{12}\)", plan)
    assert "for 90 days" in plan


def test_who_speaks_to_groups_stays_until_a_ceremony_says_nobody(world: World) -> None:
    world.play(OFFLINE)
    role = offline_role(world)
    world.play("The yearly renewal of the roots")
    assert offline_role(world) == role
    signing = [line for line in SECTIONS[OFFLINE].splitlines()[4:] if line]
    world.run("sprat trust fetch $STICK")
    said = world.run("sprat trust ceremony $STICK --offline-role nobody")
    assert said is not None
    assert "-> nobody" in said.output
    for line in signing:
        world.run(line)
    assert offline_role(world) is None


def test_nothing_is_published_before_all_have_signed(world: World) -> None:
    lines = SECTIONS["The yearly renewal of the roots"].splitlines()
    for line in lines[:4]:
        world.run(line)
    said = world.run("sprat trust publish $STICK")
    assert said is not None
    said.assert_one_sentence(6)
    assert "image 2.root.json: 1 more of image-root-2" in said.errors
    assert len(world.current().versions("root")) == 1


def test_a_root_whose_key_the_signer_does_not_use_is_refused(world: World) -> None:
    lines = SECTIONS["The signer's image key (snapshot and timestamp) is rotated"].splitlines()
    for line in lines:
        if "use-key" not in line and "publish" not in line and "lint" not in line:
            world.run(line)
    said = world.run("sprat trust publish $STICK")
    assert said is not None
    said.assert_one_sentence(6)
    assert "check dry run" in said.errors


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("--replace nobody=$KEYS/acme.pub", 6, "expected the name or id of a key"),
        ("--replace image-root=$KEYS/acme.pub", 6, "name the one to replace"),
        ("--threshold image-root=4", 6, "expected a threshold of 1 to 3"),
        ("--threshold image-root=x", 64, "expected ROLE=N"),
        ("--threshold nobody=1", 6, "expected one of image-root"),
        ("--renew moon", 64, "expected image or director"),
        ("--renew image --expires soon", 64, "expected a day"),
        ("--emergency fast-forward --renew image", 6, "only a new online key undoes it"),
        ("--emergency fire --renew image", 64, "expected --emergency fast-forward"),
        ("--publisher acme", 64, "expected NAME=FILE.pub"),
        ("--offline-role ann", 64, "expected NAME=FILE.pub"),
        ("--offline-role ann=$KEYS/acme.pem", 1, "is a private key"),
        ("--offline-role ann=$KEYS/acme.pub", 6, "no higher threshold than keys"),
        (
            "--offline-role ann=$KEYS/acme.pub --offline-role bob=$KEYS/acme.pub",
            6,
            "expected each offline key and each name once",
        ),
        (
            "--offline-role ann=$KEYS/acme.pub --offline-role bob=$KEYS/director-root-1.pub",
            6,
            "expected offline keys that are nothing else, found bob",
        ),
        ("--replace image-root-1=$KEYS/acme.pem", 1, "is a private key"),
        ("", 6, "expected something to change"),
    ],
)
def test_a_ceremony_that_makes_no_sense_is_refused(
    world: World, words: str, status: int, sentence: str
) -> None:
    world.run("sprat trust fetch $STICK")
    said = world.run(f"sprat trust ceremony $STICK {words}")
    assert said is not None
    said.assert_one_sentence(status)
    assert sentence in said.errors


def test_a_key_that_nobody_waits_for_is_told_so(world: World) -> None:
    world.run("sprat trust fetch $STICK")
    world.run("sprat trust ceremony $STICK --renew image")
    said = world.run("sprat trust sign $STICK --key $KEYS/acme.pem")
    assert said is not None
    said.assert_one_sentence(6)
    assert "that the staged metadata waits for" in said.errors


def test_history_that_was_rewritten_is_noticed(world: World) -> None:
    world.run("sprat trust fetch $STICK")
    world.api.trust[IMAGE]["1.root.json"] += b" "
    said = world.run("sprat trust fetch $STICK")
    assert said is not None
    said.assert_one_sentence(6)
    assert "somebody rewrote it" in said.errors


def test_a_folder_without_metadata_is_no_ceremony(world: World) -> None:
    said = world.run("sprat trust lint $STICK")
    assert said is not None
    said.assert_one_sentence(6)
    assert "sprat trust fetch" in said.errors


def test_lint_of_something_expired_ends_with_6(world: World) -> None:
    world.run("sprat trust fetch $STICK")
    world.sprat.now = NOW + timedelta(days=400)
    said = world.sprat("trust", "lint", str(world.folder / "stick"), "-o", "json")
    assert said.status == 6
    assert {one["grade"] for one in said.json["items"]} >= {"failed", "ok"}


def test_a_policy_is_signed_and_found(world: World) -> None:
    person = {"name": "ann", "public_pem": load_key(world.key_folder / "acme.pem", None).public_pem}
    group = {"group": "lyon", "approval": "device-enforced", "threshold": 1}
    content = {"schema": 1, "approvers": [person], "groups": [group]}
    (world.key_folder / "approvers.json").write_text(json.dumps(content, indent=2))
    world.play("Who approves changes")
    targets = read(world.current().newest("targets")[1], Targets, "targets").signed.targets
    sha256 = targets["policy/approvers.json"].hashes["sha256"]
    policy = approval.decode_policy(world.blobs.find(sha256).read_bytes())
    assert policy.groups[0].group == "lyon"


def test_the_next_issuer_is_certified_and_signs(world: World) -> None:
    shutil.rmtree(world.signer_folder)
    world.signer_folder.mkdir()
    made = SignerMade(world.signer_folder)
    made.write_root(world.key_folder)
    before = made.folder.issuer_certificate.read_bytes()
    for line in SECTIONS["The issuer of TLS certificates is replaced"].splitlines():
        program, *words = shlex.split(world.placed(line))
        if program == "sprat":
            said = world.sprat(*words)
            assert said.status == 0, said
        else:
            assert signer_main.main(words) == 0
    made.folder.open(lambda: NOW).close()
    certificate = x509.load_pem_x509_certificate(made.folder.issuer_certificate.read_bytes())
    certificate.verify_directly_issued_by(made.root)
    assert made.folder.former_certificate.read_bytes() == before


def _driven_up(world: World, role: str) -> dict[str, bytes]:
    """Return the cache of a device that a thief with the online key drove up."""
    by = [world.keys.online]
    high = {name: FAST_FORWARD if name == role else 5 for name in ("timestamp", "snapshot")}
    meta = {"targets.json": MetaFile(2), "pub-acme.json": MetaFile(1)}
    if f"{role}.json" in meta:
        meta[f"{role}.json"] = MetaFile(FAST_FORWARD)
    expires = NOW + timedelta(days=7)
    snapshot = Snapshot(version=high["snapshot"], expires=expires, meta=meta)
    timestamp = Timestamp(
        version=high["timestamp"], expires=expires, snapshot_meta=MetaFile(high["snapshot"])
    )
    stolen = {"snapshot.json": seal(snapshot, by), TIMESTAMP: seal(timestamp, by)}
    return world.device() | stolen


EMERGENCY = next(section for section in SECTIONS if section.startswith("Emergency"))


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "pub-acme"])
def test_t22_a_fast_forward_is_undone_by_the_emergency_and_by_nothing_less(
    world: World, role: str
) -> None:
    cached = _driven_up(world, role)
    with pytest.raises(MetadataError, match="BadVersionNumberError"):
        world.refresh(cached)
    world.play("The yearly renewal of the roots")
    with pytest.raises(MetadataError, match="BadVersionNumberError"):
        world.refresh(cached)
    said = world.play(EMERGENCY)
    assert any("recovery from fast-forward" in one.output for one in said)
    world.refresh(cached)


def test_t22_a_director_that_was_driven_up_is_undone_by_its_new_key(world: World) -> None:
    expires, by = NOW + timedelta(days=7), [world.keys.director]
    timestamp = Timestamp(version=FAST_FORWARD, expires=expires, snapshot_meta=MetaFile(1))
    cached = {TIMESTAMP: seal(timestamp, by)}

    def refresh() -> None:
        plan = world.signer.issue_plan(Assignment(2, "gw-1", 1, "now", [], Policy()), [])
        files = {
            **world.current(DIRECTOR).files,
            "targets.json": plan.targets,
            "snapshot.json": plan.snapshot,
            TIMESTAMP: plan.timestamp,
        }
        dry_run.dry_run(files, files["1.root.json"], now=NOW, cached=cached)

    with pytest.raises(MetadataError, match="BadVersionNumberError"):
        refresh()
    world.play(EMERGENCY)
    refresh()
