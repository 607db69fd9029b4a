"""python-tuf's client, hardened: the only file that imports it.

It runs in a scratch folder that is filled from rows and thrown away; what it verified there becomes
rows again when its caller says so. So another device's plan, however validly signed, leaves no
trace, and a power cut leaves what SQLite left (research: trust, 2.4).

- The trust begins at the root that was pinned at enrolment, not at one that lies on the disk.
- Roots are walked first, as many as there are; the time at which the rest is judged may depend on
  the keys that the last of them names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

# The names of tuf.api.metadata are its documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false
import msgspec
from sprat_proto.trust import MAX_ROOT_ROTATIONS, Repository, TargetCustom, publisher_of_role
from tuf.api import exceptions
from tuf.api.metadata import DelegatedRole, Metadata, Root, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from sprat_agent.registry.floors import Standing
from sprat_agent.registry.metadata import ROOT, Row, only_roots
from sprat_agent.registry.named import Named
from sprat_agent.registry.scratch import scratch_folder
from sprat_agent.registry.source import NotThereError, Source, SourceError

_BASE: Final = "tuf:///"  # of which only the last part is looked at
_ROOT_NAME: Final = re.compile(r"[0-9]+\.root\.json")
_NOT_FOUND: Final = 404
_ONLINE: Final = ("timestamp", "snapshot", "targets")


class MetadataRefusedError(Exception):
    """The metadata does not verify; `why` is TUF's word for it, such as ExpiredMetadataError."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(f"{why}: {message}")
        self.why = why


@dataclass(frozen=True)
class Anchor:
    """A repository as this device knows it.

    Attributes:
        repository: Which of the two.
        pinned: The root in which trust begins.
        scratch: Where folders may be made; each is gone after its use.
    """

    repository: Repository
    pinned: bytes
    scratch: Path


@dataclass(frozen=True)
class Verified:
    """What verified: all metadata above the pinned root, and how far each role has come."""

    rows: tuple[Row, ...] = ()
    standings: tuple[Standing, ...] = ()


@contextmanager
def look(
    anchor: Anchor, rows: Sequence[Row], source: Source, time: Callable[[str], datetime]
) -> Generator[Look]:
    """Yield a look at a repository; nothing is asked of the source yet.

    Args:
        anchor: Where trust begins.
        rows: What was verified before.
        source: Where newer metadata is.
        time: Told the director's key set, returns the time at which expiry is judged.
    """
    with scratch_folder(anchor.scratch) as folder:
        (folder / "root_history").mkdir()
        yield Look(folder, anchor.pinned, rows, source, time)


class Look:
    """One refresh of a repository and what it showed."""

    def __init__(
        self,
        folder: Path,
        pinned: bytes,
        rows: Sequence[Row],
        source: Source,
        time: Callable[[str], datetime],
    ) -> None:
        self._folder = folder
        self._pinned = pinned
        self._pinned_version = 0  # until it was read
        self._rows = rows
        self._fetcher = _Fetcher(source)
        self._time = time
        self._updater: Updater | None = None
        self._verified = Verified()
        self._verified_of: tuple[tuple[str, int], ...] = ()
        self.judged_at: datetime | None = None  # the time at which expiry was judged

    def walk(self) -> None:
        """Verify newer roots, and nothing else.

        Raises:
            MetadataRefusedError: One does not verify; those before it are in `verified`.
            SourceError: One could not be had.
        """
        with _translated():
            self._walk()

    def refresh(self) -> None:
        """Walk the roots, then verify the other top-level roles.

        Raises:
            MetadataRefusedError: Something does not verify; what did is in `rows` all the same.
            SourceError: Something could not be had.
        """
        with _translated():
            self._walk()
            updater = self._refreshed()
            self.judged_at = self._time(self.online_keys)
            set_reference_time(updater, self.judged_at)
            self._fetcher.is_walking = False
            self._place([row for row in self._rows if row.role != ROOT])
            updater.refresh()

    def named(self, path: str) -> Named | None:
        """Return what the repository says of a target, after `refresh`; None: it does not name it.

        Raises:
            MetadataRefusedError: A publisher's role does not verify.
            SourceError: It could not be had.
        """
        with _translated():
            found = self._refreshed().get_targetinfo(path)
        return _named(found, self._targets) if found else None

    def listed(self) -> tuple[Named, ...]:
        """Return what the top-level role itself names."""
        return tuple(_named(one, self._targets) for one in self._targets.targets.values())

    @property
    def has_delegations(self) -> bool:
        """Whether the top-level role lets others speak."""
        return self._targets.delegations is not None

    @property
    def custom(self) -> object:
        """What the top-level role says besides its targets."""
        return self._targets.unrecognized_fields.get("custom")

    @property
    def root_custom(self) -> object:
        """What the newest root says besides keys and roles, after `walk`."""
        return _trusted(self._refreshed()).root.unrecognized_fields.get("custom")

    @property
    def root_expires(self) -> datetime:
        """When the newest root does; `walk` leaves it to the caller to compare."""
        return _trusted(self._refreshed()).root.expires

    @property
    def version(self) -> int:
        """Of the top-level targets."""
        return self._targets.version

    @property
    def expires(self) -> datetime:
        """When the first of the top-level roles expires."""
        trusted = _trusted(self._refreshed())
        return min(trusted[role].expires for role in _ONLINE)

    @property
    def online_keys(self) -> str:
        """The set of keys that sign targets under the newest root."""
        return key_set(_trusted(self._refreshed()).root.roles["targets"].keyids)

    def verified(self) -> Verified:
        """Return what is verified now, also after a refresh that failed.

        To `targets` and all below the snapshot's keys belong, too: who has those says which version
        is current, so rotating them must free it (specification#150).
        """
        if self._updater is None:
            return Verified()
        trusted = _trusted(self._updater)
        state = tuple((one.type, one.version) for one in trusted)
        if state != self._verified_of:
            self._verified_of, self._verified = state, self._collect(trusted)
        return self._verified

    def _collect(self, trusted: Any) -> Verified:
        rows = (*self._roots(trusted.root.version), *self._others(trusted))
        keys = {role: key_set(said.keyids) for role, said in trusted.root.roles.items()}
        for role, said in _delegated(trusted.targets).items() if "targets" in trusted else ():
            keys.setdefault(role, key_set(said.keyids))
        listing = keys["snapshot"]
        standings = [
            Standing(row.role, keys[row.role], row.version)
            if row.role in {"timestamp", "snapshot"}
            else Standing(row.role, f"{keys[row.role]}|{listing}", row.version)
            for row in rows
            if row.role != ROOT and row.role in keys
        ]
        return Verified(rows, (Standing(ROOT, "", trusted.root.version), *standings))

    def _roots(self, last: int) -> Iterator[Row]:
        for version in range(self._pinned_version + 1, last + 1):
            path = self._folder / "root_history" / f"{version}.root.json"
            yield Row(ROOT, version, path.read_bytes())

    def _others(self, trusted: Any) -> Iterator[Row]:
        for path in sorted(self._folder.glob("*.json")):
            role, data = unquote(path.name.removesuffix(".json")), path.read_bytes()
            # What did not verify may lie there too: it came from a row, and stays one.
            if role != ROOT and role in trusted and _version_of(data) == trusted[role].version:
                yield Row(role, trusted[role].version, data)

    @property
    def _targets(self) -> Targets:
        return _trusted(self._refreshed()).targets

    def _refreshed(self) -> Updater:
        if self._updater is None:
            raise AssertionError("look after `refresh`")
        return self._updater

    def _walk(self) -> None:
        """Verify as many newer roots as there are, and nothing else yet.

        ngclient stops silently after so many rotations; then it is asked again.
        """
        self._place(only_roots(self._rows))
        while True:
            history = list((self._folder / "root_history").iterdir())
            limit = len(history) + MAX_ROOT_ROTATIONS
            walking = self._updater = self._made(limit)
            first = self._pinned_version = _trusted(walking).root.version
            # It ends where the first file that is no root is asked for, and may go on from there.
            with suppress(_RootsWalkedError):
                walking.refresh()
            if _trusted(walking).root.version < first + limit:
                return

    def _place(self, rows: Sequence[Row]) -> None:
        """Put rows where ngclient looks for them."""
        for row in rows:
            name = f"{row.version}.root" if row.role == ROOT else quote(row.role, "")
            folder = self._folder / "root_history" if row.role == ROOT else self._folder
            (folder / f"{name}.json").write_bytes(row.data)

    def _made(self, max_root_rotations: int) -> Updater:
        config = UpdaterConfig(max_root_rotations=max_root_rotations)
        return Updater(
            str(self._folder), _BASE, fetcher=self._fetcher, config=config, bootstrap=self._pinned
        )


class _RootsWalkedError(exceptions.DownloadError):
    """There is no newer root."""


class _Fetcher(FetcherInterface):
    """Has ngclient read from a source: first the roots alone, then all but those."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.is_walking = True

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        is_root = _ROOT_NAME.fullmatch(name) is not None
        if self.is_walking and not is_root:
            raise _RootsWalkedError(name)
        if is_root and not self.is_walking:
            raise exceptions.DownloadHTTPError(f"{name} was asked for already", _NOT_FOUND)
        try:
            pieces = self._source.read(name)
        except NotThereError as error:
            raise exceptions.DownloadHTTPError(str(error), _NOT_FOUND) from error
        except SourceError as error:
            raise exceptions.DownloadError(str(error)) from error
        return _pieces(pieces)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return what is there, by way of memory: it is no target, and ngclient's way is a file."""
        data = bytearray()
        for piece in self.fetch(url):
            data += piece
            if len(data) > max_length:
                raise exceptions.DownloadLengthMismatchError(
                    f"expected at most {max_length} bytes of {url}, found more"
                )
        return bytes(data)


def _pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Translate what is raised while reading: `FetcherInterface` does so only at the opening."""
    try:
        yield from pieces
    except SourceError as error:
        raise exceptions.DownloadError(str(error)) from error


def key_set(*key_ids: Sequence[str]) -> str:
    """Return a name for sets of keys."""
    return "|".join(",".join(sorted(ids)) for ids in key_ids)


@lru_cache(maxsize=1)  # asked for at each reading of the clock
def pinned_keys(root: bytes) -> str:
    """Return the key set that signs targets under a root that was verified.

    Raises:
        MetadataRefusedError: It is no root.
    """
    with _translated():
        return key_set(Metadata[Root].from_bytes(root).signed.roles["targets"].keyids)


def named_in(targets: bytes, path: str) -> Named | None:
    """Return what targets metadata that was verified names; None if it does not.

    Raises:
        MetadataRefusedError: It is none.
    """
    with _translated():
        content = Metadata[Targets].from_bytes(targets).signed
    found = content.targets.get(path)
    return _named(found, content) if found else None


def set_reference_time(updater: Updater, moment: datetime) -> None:
    """Have expiry judged at this time instead of the system clock's.

    There is no public way (python-tuf#2359, open since 2023); a test fails when this one goes.
    """
    trusted = _trusted(updater)
    if not hasattr(trusted, "reference_time"):
        raise AssertionError("python-tuf has no reference_time any more: expiry cannot be judged")
    trusted.reference_time = moment


def _trusted(updater: Updater) -> Any:
    return updater._trusted_set  # noqa: SLF001 - what it verified is to be seen nowhere else  # pyright: ignore[reportPrivateUsage]


def _version_of(data: bytes) -> int:
    return int(json.loads(data)["signed"]["version"])


def _named(found: TargetFile, by: Targets) -> Named:
    custom: object = found.unrecognized_fields.get("custom")
    allowed, signer = None, ""
    for name, role in _delegated(by).items():
        publisher = publisher_of_role(name)
        if publisher is not None and role.is_delegated_path(found.path):
            allowed = _hardware(role.unrecognized_fields.get("custom"))
            signer = f"{publisher} ({role.keyids[0][:12]})"
            break
    return Named(
        path=found.path,
        length=found.length,
        hashes=tuple(found.hashes.items()),
        custom=_custom(custom),
        hardware_ids=allowed,
        signer=signer,
    )


def _delegated(by: Targets) -> Mapping[str, DelegatedRole]:
    return (by.delegations.roles if by.delegations else None) or {}


def _custom(found: object) -> TargetCustom | None:
    try:
        return msgspec.convert(found, TargetCustom)
    except msgspec.ValidationError:
        return None


def _hardware(custom: object) -> tuple[str, ...] | None:
    """Return the limit of a delegation; one that cannot be read lets it sign for nothing."""
    if custom is None:
        return None
    try:
        return tuple(msgspec.convert(custom, _DelegationCustom).hardware_ids)
    except msgspec.ValidationError:
        return ()


class _DelegationCustom(msgspec.Struct):
    hardware_ids: list[str]


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except exceptions.DownloadLengthMismatchError as error:
        raise MetadataRefusedError(type(error).__name__, str(error)) from error
    except exceptions.DownloadError as error:
        raise SourceError(str(error)) from error
    except exceptions.RepositoryError as error:
        raise MetadataRefusedError(type(error).__name__, str(error)) from error
