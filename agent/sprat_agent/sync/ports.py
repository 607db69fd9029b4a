"""What an execution needs of the parts that touch the world; the tests' simulators are the others.

`runtime/supervisor.py` implements `Workers` with one process per model, `registry/` implements
`Registry` with files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from sprat_proto.assignment import AssignedModel, ServingTerms
from sprat_proto.manifest import Activation, Facts, Manifest
from sprat_proto.probes import ProbeResult, Traffic
from sprat_proto.states import ModelState, ReasonCode


class ExecutionError(Exception):
    """The execution cannot go on; the reason travels to the controller as it is."""

    def __init__(
        self, code: ReasonCode, message: str, *, expected: str = "", found: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.expected = expected
        self.found = found


class RejectedError(ExecutionError):
    """By this device's own facts the variant does not fit; another one of the release may."""


class RetryLaterError(Exception):
    """The network or another passing thing stood in the way: try the same phase again later."""


@dataclass(frozen=True)
class ShardFile:
    """One file of a model and what its bytes must hash to."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class AdapterFile:
    """A LoRA of a variant, which requests ask for by its name."""

    name: str
    file: ShardFile


@dataclass(frozen=True)
class Serving:
    """How a model is served."""

    slots: int = 1  # requests answered at once: as many at least
    kv_type: str = "f16"  # of keys and values: f16 or q8_0
    is_pinned: bool = False  # never evicted for another model
    may_have_more: bool = True  # slots, by the memory that is free

    @staticmethod
    def by(terms: ServingTerms) -> Serving:
        """Return how a model is served that is assigned on these terms."""
        return Serving(
            slots=terms.slots or 1,
            kv_type=terms.kv_type,
            is_pinned=terms.is_pinned,
            may_have_more=terms.slots == 0,
        )


@dataclass(frozen=True)
class Loadable:
    """A verified variant on this device's disk, ready to be loaded under an alias."""

    alias: str
    model: str
    release: str
    variant: str
    digest: str  # hex SHA-256 of the manifest: the running digest
    signer: str  # "name (key id prefix)" of the publisher
    files: tuple[ShardFile, ...]
    facts: Facts
    context: int  # tokens
    chat_template: str  # Jinja, from the signed manifest; empty: messages cannot be chatted
    serving: Serving = Serving()
    adapters: tuple[AdapterFile, ...] = ()

    @property
    def name(self) -> str:
        """`model@release+variant`."""
        return f"{self.model}@{self.release}+{self.variant}"

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """What requests may ask for, in order."""
        return tuple(sorted(one.name for one in self.adapters))

    @property
    def adapters_bytes(self) -> int:
        """What all adapters take of memory, beside the weights."""
        return sum(one.file.size for one in self.adapters)


@dataclass(frozen=True)
class SeenRates:
    """Medians of real answers, each alone, in thousandths of a token a second; 0: not yet."""

    decode_milli_tps: int = 0
    prefill_milli_tps: int = 0
    samples: int = 0  # answers behind the medians


@dataclass(frozen=True)
class Probed:
    """What a probe measured, and why the candidate failed it, if it did."""

    result: ProbeResult
    fault: ExecutionError | None = None


@dataclass(frozen=True)
class Running:
    """What answers under an alias right now."""

    loadable: Loadable
    state: ModelState
    seen: SeenRates = SeenRates()


@dataclass(frozen=True)
class ModelMetrics:
    """What real requests showed of a model since it was taken on, and what it took; 0: unknown."""

    alias: str
    digest: str
    window_s: int  # since this start of the agent took it on
    requests: int = 0
    errors: int = 0  # of these: the engine failed
    decode_milli_tps: int = 0  # the median of answers that were made alone
    ttft_p95_ms: int = 0
    peak_bytes: int = 0  # resident memory of its worker
    declared_bytes: int = 0  # what fit declares for it
    crashes: int = 0  # over all starts of the agent


class Workers(Protocol):
    """The engine worker processes: per alias one committed model, and one candidate while proving.

    Every load hashes the files again and compares them with the manifest before the engine sees a
    byte. All methods but `running` may take seconds.
    """

    async def load_committed(self, loadable: Loadable) -> None:
        """Make `loadable` what answers under its alias.

        Raises:
            ExecutionError: DIGEST_MISMATCH, SIZE_MISMATCH, LOAD_FAILED.
        """
        ...

    async def load_candidate(self, loadable: Loadable) -> None:
        """Load `loadable` to be proved; what answers goes on answering.

        If both do not fit the memory budget together, it is loaded in the place of what answers
        and requests are held meanwhile. A loaded candidate of the same digest is kept.

        Raises:
            ExecutionError: As for `load_committed`; what answered before answers again.
        """
        ...

    async def probe(self, alias: str, activation: Activation, before_milli_tps: int) -> Probed:
        """Ask the candidate its golden prompts, greedily, and measure what it is held to.

        Args:
            alias: Whose candidate.
            activation: What it is held to.
            before_milli_tps: The decode rate that it is compared with; 0: unknown.

        Returns:
            The figures, and PROBE_FAILED with expected and found or WORKER_CRASHED, if it failed.

        Raises:
            ExecutionError: WORKER_CRASHED: there is no candidate.
        """
        ...

    def share_traffic(self, alias: str, percent: int) -> None:
        """Give the candidate this share of the alias's requests; the rest goes to the committed."""
        ...

    async def candidate_failure(self, alias: str) -> ExecutionError:
        """Wait until the candidate's worker dies and return why; never returns while it is well."""
        ...

    async def promote(self, alias: str) -> None:
        """Make the candidate what answers under the alias; end the previous worker once idle."""
        ...

    async def drop_candidate(self, alias: str) -> None:
        """End the candidate, if any; what was committed answers (again)."""
        ...

    async def unload(self, alias: str) -> None:
        """End everything under the alias."""
        ...

    def running(self) -> tuple[Running, ...]:
        """Return what answers under each alias, in order of alias."""
        ...

    def seen(self, digest: str) -> SeenRates:
        """Return how fast a variant answered here."""
        ...

    def metrics(self) -> tuple[ModelMetrics, ...]:
        """Return the metrics of each committed model and candidate, in order of alias."""
        ...

    def traffic(self, alias: str) -> Traffic:
        """Return what real requests to the candidate showed since it was loaded."""
        ...


@dataclass(frozen=True)
class Fetched:
    """What is to be fetched, by its verified manifest, and how much of it is still to come."""

    manifest: Manifest
    missing_bytes: int


# Raises an ExecutionError for what this device is not to have.
Admit: TypeAlias = Callable[[Fetched], Awaitable[None]]


async def admit_all(_fetched: Fetched) -> None:
    """Let this device have whatever is assigned to it."""


@dataclass(frozen=True)
class Installed:
    """A version on this device's disk whose signature was verified when this was made."""

    manifest: Manifest
    loadable: Loadable


class Registry(Protocol):
    """The signed models on this device's disk."""

    async def download(self, wanted: AssignedModel, admit: Admit = admit_all) -> None:
        """Ask both repositories, fetch the manifest and its blobs, resuming what is there already.

        Args:
            wanted: What was assigned.
            admit: Asked once the manifest is there, before any blob is fetched.

        Raises:
            RetryLaterError: The network or the controller is away.
            ExecutionError: The repositories do not allow it, a blob does not hash to its name,
                there is no space, or what `admit` raised.
        """
        ...

    async def fetched(self, wanted: AssignedModel) -> Fetched:
        """Return what was fetched, its blobs unread.

        Raises:
            ExecutionError: Not even its manifest is there.
        """
        ...

    async def verify(self, wanted: AssignedModel) -> Manifest:
        """Check the manifest's digest, every blob's size, SHA-256 and header.

        Raises:
            ExecutionError: With what was expected and found.
        """
        ...

    async def install(self, wanted: AssignedModel) -> None:
        """Make the version's folder, durable on disk; idempotent.

        Both repositories are asked again, and what they said is kept as evidence beside the
        manifest and the links to its blobs.

        Raises:
            RetryLaterError: They cannot be asked now.
            ExecutionError: They do not allow it any more.
        """
        ...

    async def open_installed(self, wanted: AssignedModel, context: int) -> Installed:
        """Return an installed version, proved anew by its evidence (never the network).

        Raises:
            ExecutionError: It is not there, or not what was signed.
        """
        ...

    async def superfluous(self, keep: frozenset[str]) -> frozenset[str]:
        """Return the digests of the installed versions that `collect_garbage` would remove."""
        ...

    async def collect_garbage(self, keep: frozenset[str]) -> int:
        """Remove versions whose digest is not in `keep`; return bytes freed.

        With them go the blobs that no kept version names and whatever was half-fetched. Not while
        `download` runs.
        """
        ...
