"""Whether an assigned variant may be fetched and installed now: both repositories, whole.

Under an offline statement its two signers stand where the director does, and the image repository
is judged at the moment when the statement was issued. Expiry asks whether metadata is still the
newest, so that nobody can keep a device at what was good once; its timestamp lives 7 days, a
statement up to 90. The signers have answered that question: at that moment they looked, and they
vouch by name and hash for exactly these manifests until `not_after`, which is compared with the
device's own time before anything begins. All else holds as ever: every threshold, every version
floor, hardware, the release counter. Whoever holds an old online key of the image repository can
show a device that obeys a statement old metadata, but none below its floors and none that names
other bytes than the statement. What is given up is to hear of a retirement in these 90 days, and
a device without a network would not hear of it anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sprat_proto.assignment import AssignedModel
from sprat_proto.states import ReasonCode

from sprat_agent.registry.director import Director
from sprat_agent.registry.image import ImageRepository
from sprat_agent.registry.named import Named
from sprat_agent.registry.offline import issued_at
from sprat_agent.registry.remote import Remote
from sprat_agent.registry.source import SourceError
from sprat_agent.registry.trust import Past, check_both, check_stated
from sprat_agent.registry.tuf_client import MetadataRefusedError
from sprat_agent.sync.ports import ExecutionError, RetryLaterError


@dataclass(frozen=True)
class Permission:
    """What both repositories say of a variant that this device may take, and what proves it."""

    named: Named
    evidence: bytes


class Judge:
    """Asks both repositories."""

    def __init__(
        self,
        director: Director,
        image: ImageRepository,
        remote: Remote,
        hardware_id: str,
        past: Callable[[AssignedModel], Past],
    ) -> None:
        self._director = director
        self._image = image
        self._remote = remote
        self._hardware_id = hardware_id
        self._past = past

    async def permit(self, wanted: AssignedModel) -> Permission:
        """Return the permission to take a variant; the image repository is refreshed for it.

        Raises:
            ExecutionError: As `trust.check_both` and `check_stated`; METADATA_REFUSED also for
                metadata that does not verify.
            RetryLaterError: Nothing newer can be had and what was verified before has expired.
        """
        return await self._remote.ask(lambda: self._permit_blocking(wanted))

    def _permit_blocking(self, wanted: AssignedModel) -> Permission:
        said = self._director.statement()
        at = issued_at(said) if said else None
        try:
            proof = self._image.prove(wanted.path, wanted.publisher, at)
        except SourceError as error:
            raise RetryLaterError(f"the image repository: {error}") from error
        except MetadataRefusedError as error:
            if error.why == "ExpiredMetadataError":
                # Its signer is late, or somebody holds it back: a newer one may come.
                raise RetryLaterError(f"the image repository: {error}") from error
            raise ExecutionError(
                ReasonCode.METADATA_REFUSED,
                f"{wanted.name}: the image repository's metadata does not verify: {error}",
                expected="metadata of the image repository that verifies",
                found=str(error),
            ) from error
        past = self._past(wanted)
        if said:
            named = check_stated(wanted, said.models, proof.named, self._hardware_id, past)
        else:
            director = self._director.named(wanted.path)
            named = check_both(wanted, director, proof.named, self._hardware_id, past)
        return Permission(named, proof.evidence)
