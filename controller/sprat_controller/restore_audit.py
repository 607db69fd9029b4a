"""`sprat-controller audit restore`: goes on with the audit log of a database from a backup."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sprat_controller.audit import restoring
from sprat_controller.audit.restoring import Loss, Word
from sprat_controller.clock import Clock
from sprat_controller.config import DataFolder
from sprat_controller.errors import ConflictError, StartupError
from sprat_controller.signer.core import SignerCore
from sprat_controller.signer.folder import SignerFolder
from sprat_controller.store.opening import open_database
from sprat_controller.store.session import Database, sqlite_url


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        reason: Why; it stands in the log.
        export: A whole export of the log to put records back from, if there is one.
        accept_loss: How many lost records are known and accepted; None: somebody is asked.
        database_url: Where the rows are; None: where `init` was told.
        signer: Folder of the signer; None: that of the data folder.
    """

    reason: str
    export: Path | None = None
    accept_loss: int | None = None
    database_url: str | None = None
    signer: Path | None = None


@dataclass(frozen=True)
class Talk:
    """How somebody is told what is lost, and answers; EOFError: there is nobody."""

    say: Callable[[str], None]
    ask: Callable[[str], str]


def restore(folder: DataFolder, wanted: Wanted, clock: Clock, talk: Talk) -> str:
    """Have the log go on, and return what to tell. Neither controller nor signer may be running.

    Raises:
        StartupError: It cannot be done; nothing was changed, but what was put back.
    """
    folder.check_initialised()
    if not wanted.reason.strip():
        raise StartupError("bad_flag", "expected --reason with why the log is restored")
    signer_folder = SignerFolder(wanted.signer or folder.signer)
    url = wanted.database_url or folder.database_url() or sqlite_url(folder.database)
    with _alone(folder.lock, "controller"), _alone(signer_folder.lock, "signer"):
        database = open_database(url)
        try:
            signer = signer_folder.open(clock)
            try:
                return _Restoring(database, signer, wanted, clock()).run(talk)
            finally:
                signer.close()
        except (ConflictError, OSError) as error:
            message = error.message if isinstance(error, ConflictError) else str(error)
            raise StartupError("not_restored", message) from error
        finally:
            database.close()


@dataclass(frozen=True)
class _Restoring:
    database: Database
    signer: SignerCore
    wanted: Wanted
    now: datetime

    def run(self, talk: Talk) -> str:
        """Do it, and return what to tell."""
        word = Word(self.wanted.reason, self.now)
        loss = restoring.find(self.database, self.signer)
        if loss is None:
            # A kill came between the signer's word and the log's.
            if restoring.say_missing(self.database, self.signer, word):
                return "the log goes on: what was signed the last time stands in it now"
            raise StartupError(
                "nothing_lost", "the database has all that was signed of its log: nothing changed"
            )
        talk.say(_in_words(loss))
        if self.wanted.export is not None:
            put_back = self._put_back(loss, self.wanted.export, word)
            talk.say(f"{put_back} records were put back from {self.wanted.export}")
            left = restoring.find(self.database, self.signer)
            if left is None:
                restoring.say_missing(self.database, self.signer, word)
                return "nothing of the log is lost: the controller can be started"
            loss = left
            talk.say(_in_words(loss))
        _accept(loss, self.wanted.accept_loss, talk)
        restoring.go_on(self.database, self.signer, loss, word)
        return (
            f"the log goes on from {loss.kept.size} records; witnesses refuse it until they are"
            " told: `sprat audit witness --accept-restore`"
        )

    def _put_back(self, loss: Loss, file: Path, word: Word) -> int:
        return restoring.refill(self.database, loss, file, self.signer.log_keys(), word)


def _in_words(loss: Loss) -> str:
    since = loss.last_at.isoformat(timespec="seconds") if loss.last_at else "the beginning"
    return (
        f"signed were {loss.signed.size} records, root {loss.signed.root.hex()}\n"
        f"the database has {loss.kept.size}, root {loss.kept.root.hex()}, the last of {since}\n"
        f"surely the same are the first {loss.shared}: at most {loss.lost} records are lost"
    )


def _accept(loss: Loss, accepted: int | None, talk: Talk) -> None:
    if accepted is None:
        try:
            answer = talk.ask(
                f"To accept that {loss.lost} records are lost for good, type {loss.lost}: "
            )
        except EOFError:
            answer = ""
        if answer.strip() != str(loss.lost):
            raise StartupError(
                "not_accepted",
                f"the log does not go on: to accept the loss, give --accept-loss {loss.lost}",
            )
    elif accepted != loss.lost:
        raise StartupError(
            "not_accepted",
            f"expected --accept-loss {loss.lost}, which is how many are lost at most, found"
            f" {accepted}: the log does not go on",
        )


@contextmanager
def _alone(lock: Path, what: str) -> Generator[None]:
    """Hold a folder, so that no process works on it meanwhile."""
    try:
        file = lock.open("w")
    except OSError as error:
        raise StartupError("not_restored", f"{lock} cannot be opened: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupError(
                "already_running", f"a {what} is using {lock.parent}: stop it first"
            ) from error
        yield
