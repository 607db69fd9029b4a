"""`init` as a whole: what it makes, that it may be killed anywhere, and what it tells."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sprat_controller.config import DataFolder
from sprat_controller.errors import StartupError
from sprat_controller.initialise import (
    CA_ROOT,
    DIRECTOR_ROOT,
    IMAGE_ROOT,
    IMAGE_TARGETS,
    Initialised,
    initialise,
    screen,
)
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.trust import repository
from sprat_controller.trust.lint import Grade, lint
from sprat_proto.trust import DIRECTOR, IMAGE

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
OFFLINE = {*IMAGE_ROOT, *IMAGE_TARGETS, *DIRECTOR_ROOT, CA_ROOT}


class KilledError(BaseException):
    """kill -9: nothing catches it."""


def make(
    folder: Path, *, offline: Path | None = None, passphrase_file: Path | None = None
) -> Initialised:
    return initialise(
        DataFolder(folder),
        ["c.test"],
        lambda: NOW,
        offline=offline,
        passphrase_file=passphrase_file,
    )


def assert_sound(folder: Path) -> None:
    """Both repositories are what a device takes."""
    database = Database(sqlite_url(folder / "controller.db"))
    with database.reading() as session:
        for one in (IMAGE, DIRECTOR):
            found = lint(repository.current(session, one), NOW)
            assert [finding for finding in found if finding.grade is not Grade.OK] == []
    database.close()


def test_every_key_is_encrypted_and_its_owners_alone(tmp_path: Path) -> None:
    made = make(tmp_path / "data")
    assert_sound(made.folder.path)
    keys = {path.stem for path in made.offline.glob("*.pem")}
    assert keys == OFFLINE
    signer = made.folder.signer
    private = [*made.offline.glob("*.pem"), *signer.glob("*online.pem"), signer / "ca-issuer.pem"]
    for path in private:
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes(), path
    assert not list((tmp_path / "data").rglob(".*partial"))


def test_one_screen_says_what_there_is_and_what_must_go(tmp_path: Path) -> None:
    said = screen(make(tmp_path / "data"))
    assert len(said.splitlines()) <= 30
    for word in ("image-root-1..3", "director-online", "ca-root", "shred", "runbook-trust.md"):
        assert word in said
    own = tmp_path / "own"
    own.write_text("correct horse")
    other = make(tmp_path / "other", offline=tmp_path / "stick", passphrase_file=own)
    assert "Its passphrase is in" not in screen(other)
    assert not (tmp_path / "stick" / "passphrase").exists()
    assert not (tmp_path / "other" / "offline").exists()


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(StartupError, match="expected a passphrase in"):
        make(tmp_path / "data", passphrase_file=tmp_path / "empty")
    with pytest.raises(StartupError, match="missing"):
        make(tmp_path / "data", passphrase_file=tmp_path / "missing")


@pytest.mark.parametrize("after", [0, 1, 3, 8, 15, 21, 24, 26, 28, 30])
def test_killed_anywhere_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    left, real = after, os.fsync

    def counting(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        real(descriptor)

    was_killed = _run(lambda: make(tmp_path / "data"), monkeypatch, counting)
    made = make(tmp_path / "data") if was_killed else None
    assert made is None or made.folder.admin_token.exists()
    assert_sound(tmp_path / "data")
    with pytest.raises(StartupError, match="already"):
        make(tmp_path / "data")


def _run(
    work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, fsync: Callable[[int], None]
) -> bool:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        try:
            work()
        except KilledError:
            return True
        return False
