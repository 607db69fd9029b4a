"""Whether an assigned variant may be fetched and installed now: both repositories, whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sprat_proto.assignment import AssignedModel
from sprat_proto.states import ReasonCode

from sprat_agent.registry.director import Director
from sprat_agent.registry.image import ImageRepository
from sprat_agent.registry.named import Named
from sprat_agent.registry.remote import Remote
from sprat_agent.registry.source import SourceError
from sprat_agent.registry.trust import Past, check_both
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
            ExecutionError: As `trust.check_both`; METADATA_REFUSED also for metadata that does not
                verify.
            RetryLaterError: Nothing newer can be had and what was verified before has expired.
        """
        return await self._remote.ask(lambda: self._permit_blocking(wanted))

    def _permit_blocking(self, wanted: AssignedModel) -> Permission:
        try:
            proof = self._image.prove(wanted.path, wanted.publisher)
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
        director = self._director.named(wanted.path)
        past = self._past(wanted)
        named = check_both(wanted, director, proof.named, self._hardware_id, past)
        return Permission(named, proof.evidence)
