"""The shapes of the API: what is accepted and what is answered. Neither rows nor messages.

Moments are RFC 3339 in UTC; sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sprat_proto.states import DeviceState, ExecutionState

from sprat_controller.api import text
from sprat_controller.fleet.enrolment import DEFAULT_GRACE_DAYS, DEFAULT_GROUP, MAX_COUNT

MAX_GRACE_DAYS: Final = 3650
MIN_CLAIM_S: Final = 3600
MAX_CLAIM_S: Final = 30 * 86400
Json = dict[str, Any]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Short = Annotated[str, StringConstraints(max_length=200)]
Pem = Annotated[str, StringConstraints(max_length=16_384)]


class Accepted(BaseModel):
    """What is accepted: an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nul(cls, said: Any) -> Any:
        if text.has_nul(said):
            raise ValueError(text.EXPECTED)
        return said


class Answered(BaseModel):
    """What is answered; read from rows and values by attribute."""

    model_config = ConfigDict(from_attributes=True)


class Error(Answered):
    """One error."""

    code: str = Field(description="Stable, for programs")
    message: str = Field(description="One sentence for people")
    details: Json


class ErrorAnswer(Answered):
    """What every 4xx and 5xx answers."""

    error: Error


class Health(Answered):
    """The process answers."""

    status: str


Base64 = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9+/=]{1,256}$"), Field(description="base64")
]


class EnrolRequest(Accepted):
    """A device's claim and its keys."""

    token: Short
    csr: Pem = Field(description="PKCS#10 in PEM for the TLS key, signed by it")
    identity_key: Pem = Field(description="The public half in PEM: P-256, P-384 or Ed25519")
    audit_key: Pem = Field(description="The public half in PEM: Ed25519; signs checkpoints")
    audit_seed: Base64 = Field(description="32 bytes in base64: see `sprat_proto.audit_seal`")
    signature: Base64 = Field(description="The identity key's, see `sprat_proto.identity`")
    hardware_id: Short = Field(description="What the device is, such as cpu-aarch64")


class EnrolAnswer(Answered):
    """What an enrolled device needs."""

    device_id: str
    group: str
    certificate: str = Field(description="With its chain up to the root, PEM, leaf first")
    ca: str
    image_root: str | None = Field(description="Newest root of the image repository, TUF JSON")
    director_root: str | None = Field(description="Newest root of the director, TUF JSON")
    grpc: str = Field(description="host:port")
    mqtt: str | None = Field(description="host:port of the broker, if there is one")


class RenewRequest(Accepted):
    """A device's next TLS key."""

    device_id: Short
    serial: Short = Field(description="Of the certificate it has, lower-case hex")
    csr: Pem
    signature: Base64


class RenewAnswer(Answered):
    """The next certificate."""

    certificate: str = Field(description="With its chain up to the root, PEM, leaf first")
    ca: str


class EnrolmentTokenRequest(Accepted):
    """A claim to make, for one device or for a batch."""

    device_id: Short | None = None
    prefix: Short | None = Field(default=None, description="`kiosk` names kiosk-1, kiosk-2, ...")
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    group: Short = DEFAULT_GROUP
    labels: dict[str, str] = {}
    hardware_id: Short | None = None
    grace_days: Annotated[int, Field(ge=0, le=MAX_GRACE_DAYS)] = DEFAULT_GRACE_DAYS
    ttl_s: Annotated[int, Field(ge=MIN_CLAIM_S, le=MAX_CLAIM_S)] = 86400


class EnrolmentToken(Answered):
    """A claim without its secret."""

    id: str
    device_id: str | None
    prefix: str | None
    count: int
    used: int
    group: str
    labels: dict[str, str]
    hardware_id: str | None
    grace_days: int
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime
    used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class NewEnrolmentToken(EnrolmentToken):
    """A claim with its secret, this once."""

    token: str


class EnrolmentTokenPage(Answered):
    """A page of claims."""

    items: list[EnrolmentToken]
    next: str | None


class Device(Answered):
    """A device in a list."""

    id: str
    state: DeviceState
    online: bool
    carrier: str | None
    last_seen_at: AwareDatetime | None
    enrolled_at: AwareDatetime
    revoked_at: AwareDatetime | None
    quarantined_at: AwareDatetime | None = Field(description="Since when it gets no plan")
    group: str
    agent_version: str
    hardware_class: str | None
    simulated: bool = Field(description="Its hardware is declared in a file, not measured")
    running: Json = Field(description="What answers under each alias")
    labels: dict[str, str]


class DevicePage(Answered):
    """A page of devices."""

    items: list[Device]
    next: str | None


class DeviceExecution(Answered):
    """A run of a rollout, as a device's page shows it."""

    id: str
    rollout_id: str
    state: ExecutionState
    step: str | None
    digest: str | None
    reason: Json | None
    started_at: AwareDatetime | None
    updated_at: AwareDatetime
    finished_at: AwareDatetime | None


class ObservedRate(Answered):
    """How fast a device was seen to answer with a variant, and the medians of its class.

    Rates are of requests that ran alone, in thousandths of a token a second; 0: not yet.
    """

    model: str
    release: str
    variant: str
    digest: str
    decode_milli_tps: int
    prefill_milli_tps: int
    samples: int = Field(description="Answers behind the device's medians")
    class_decode_milli_tps: int
    class_prefill_milli_tps: int
    class_devices: int = Field(description="Devices behind the medians of the class")
    told_at: AwareDatetime


class Fallback(Answered):
    """That a device went back to another variant and did not say so."""

    expected: str = Field(description="The digest that it had proved")
    found: str = Field(description="The digest that answers instead")
    at: AwareDatetime


class ModelMetrics(Answered):
    """What requests and a probe showed of a variant on a device, as it told last; 0: not yet."""

    model: str
    release: str
    variant: str
    digest: str
    alias: str
    window_s: int = Field(description="Seconds since the agent took it on")
    requests: int
    errors: int = Field(description="Of the requests: the engine failed")
    decode_milli_tps: int = Field(description="Of answers that were made alone: the median")
    ttft_p95_ms: int = Field(description="Of the newest answers")
    peak_bytes: int
    declared_bytes: int = Field(description="What fit declares for it")
    crashes: int
    fallbacks: int = Field(description="How often the device went back from it without a word")
    prompts: int = Field(description="Golden prompts that its probe asked")
    score_permille: int
    probed_decode_milli_tps: int
    probed_ttft_ms: int
    told_at: AwareDatetime


class DeviceDetail(Device):
    """All that is known of a device."""

    quarantine_reason: str | None
    hardware_id: str
    certificate_serial: str
    certificate_ends_at: AwareDatetime | None
    capability: int
    profile: Json | None
    assignment_version: int = Field(description="Of the newest assignment; 0 if there is none")
    obeyed_version: int = Field(description="What the device said it obeys")
    fallbacks: dict[str, Fallback] = Field(description="By alias, while they last")
    observed: list[ObservedRate] = Field(description="The newest first")
    metrics: list[ModelMetrics] = Field(description="The newest first")
    executions: list[DeviceExecution] = Field(description="The latest, newest first")


class DeviceChange(Accepted):
    """What people change of a device."""

    labels: dict[str, str] = Field(description="All of them: what is missing here is removed")


class QuarantineRelease(Accepted):
    """A person's decision that a device is the one it says it is."""

    accept_older: bool = Field(
        default=False, description="Its next renewal may follow any of its certificates"
    )


class Publisher(Answered):
    """Whom the top-level targets delegate to."""

    name: str
    key_ids: list[str]
    created_at: AwareDatetime


class PublisherPage(Answered):
    """All publishers."""

    items: list[Publisher]
    next: None = None


class MetadataFile(Answered):
    """A published file of a repository."""

    name: str
    size: int


class MetadataPage(Answered):
    """All published files of a repository."""

    items: list[MetadataFile]
    next: None = None


class MetadataRequest(Accepted):
    """Signed metadata to publish, all of it or nothing."""

    files: dict[Short, Sha256] = Field(
        description="Of each uploaded file, by its name in the repository", max_length=1000
    )


class BlobAnswer(Answered):
    """A blob that is kept."""

    sha256: str
    size: int


class ReleaseRequest(Accepted):
    """A release to publish; everything it needs was uploaded."""

    release: Short
    publisher: Short
    metadata: Sha256 = Field(description="Of the uploaded next metadata of the publisher's role")
    unproven: Short = Field(
        default="", description="Why its publisher did not ask it its golden prompts first, if so"
    )


class RetireRequest(Accepted):
    """A release to retire: the uploaded metadata of its publisher names it no longer."""

    publisher: Short
    metadata: Sha256


class Release(Answered):
    """A release in a list."""

    release: str
    counter: int
    created_at: AwareDatetime
    pushed_by: str
    retired_at: AwareDatetime | None


class Model(Answered):
    """A model and its releases, highest counter first."""

    model: str
    releases: list[Release]


class ModelPage(Answered):
    """All models."""

    items: list[Model]
    next: None = None


class Variant(Answered):
    """One form of a release."""

    variant: str
    digest: str = Field(description="SHA-256 of the manifest, which is a blob")
    publisher: str
    manifest: Json


class ReleaseDetail(Release):
    """A release with its variants."""

    model: str
    variants: list[Variant]


class AuditItem(Answered):
    """One record; `hash` is of its leaf in the log's tree, or of a device's in its chain."""

    seq: int
    hash: str
    body: Json | None = Field(description="None: it expired, and was erased")
    expired: bool = Field(default=False, description="Left out where it has not")


class AuditPage(Answered):
    """A page of a log, oldest first."""

    items: list[AuditItem]
    next: int | None


class AuditKey(Answered):
    """Who signs the checkpoints of the log."""

    origin: str
    vkey: str


class AuditInclusion(Answered):
    """That a record is in the log; `tlog_proof` is a C2SP tlog-proof, checkpoint included."""

    seq: int
    hash: str
    size: int
    expired: bool = Field(
        default=False, description="The record itself was erased: the proof is of its hash"
    )
    tlog_proof: str


class AuditConsistency(Answered):
    """That a log begins with a shorter one: hashes in base64 (RFC 9162, 2.1.4)."""

    from_: int = Field(alias="from")
    to: int
    hashes: list[str]


class AuditRestoration(Answered):
    """That the log went on from a database that lacked records, as the signer signed it."""

    seq: int = Field(description="The record that says so")
    statement: str


class AuditRestorations(Answered):
    """Every one, oldest first."""

    items: list[AuditRestoration]


class NewCosignature(Accepted):
    """A witness's word about a checkpoint: its signature line, and the key that verifies it."""

    size: int = Field(ge=1, le=(1 << 63) - 1)
    vkey: str = Field(max_length=400)
    line: str = Field(max_length=600)


class AuditNote(Answered):
    """A checkpoint with all its signatures."""

    size: int
    note: str


class ChainAnswer(Answered):
    """What a check of a log found."""

    ok: bool
    records: int
    head: str | None
    message: str
    expired: int = Field(
        default=0, description="How many of the records were erased as a policy says"
    )
