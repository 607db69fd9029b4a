"""Which carriers a device has, in the order to try them. Each is imported only when it is used."""

from __future__ import annotations

from typing import Literal, TypeAlias

from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import Carrier, LinkUnavailableError

CarrierChoice: TypeAlias = Literal["auto", "grpc", "mqtt"]


def carriers_for(identity: Identity, choice: CarrierChoice) -> tuple[Carrier, ...]:
    """Return the carriers to try, first choice first; never none.

    Raises:
        LinkUnavailableError: `mqtt` was asked for, and the controller named no broker.
    """
    if choice == "mqtt" and identity.mqtt is None:
        raise LinkUnavailableError(
            f"the controller at {identity.controller_url} named no MQTT broker when"
            f" {identity.device_id} was enrolled: use --carrier grpc, or enrol anew"
        )
    carriers: list[Carrier] = []
    if choice != "mqtt":
        carriers.append(_grpc(identity))
    if choice != "grpc" and identity.mqtt is not None:
        carriers.append(_mqtt(identity))
    return tuple(carriers)


def _grpc(identity: Identity) -> Carrier:
    # grpc costs megabytes: a device that speaks MQTT only must not pay for it.
    from sprat_agent.link.grpc import GrpcCarrier  # noqa: PLC0415 - see above

    return GrpcCarrier(identity)


def _mqtt(identity: Identity) -> Carrier:
    from sprat_agent.link.mqtt import MqttCarrier  # noqa: PLC0415 - as for grpc

    return MqttCarrier(identity)
