"""Which records stand in a report one by one: a table each, of all with certain tags. Pure.

A record is in a table if its tag is among the table's and its time in the period; one whose time
cannot be read is in any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sprat_proto.audit_events import Tag


@dataclass(frozen=True)
class Events:
    """A table of records.

    Attributes:
        title: For people.
        about: What it shows, in a sentence.
        tags: What it is of; what ends with `:` stands for all that begins with it.
    """

    title: str
    about: str
    tags: tuple[str, ...]

    def takes(self, tag: str) -> bool:
        """Tell whether a record with this tag belongs there."""
        return tag in self.tags or any(tag.startswith(one) for one in self.tags if one[-1] == ":")


TABLES: Final[Mapping[str, Events]] = {
    "releases": Events(
        "Releases and channels",
        "What was published, refused, withdrawn, and put into which channel.",
        ("publisher:release:", "publisher:channel:"),
    ),
    "signatures": Events(
        "Signed metadata",
        "What was published of the repositories that devices verify, and what was refused.",
        ("operator:trust:", Tag.TIMESTAMP_LATE, Tag.REVOCATIONS_LATE),
    ),
    "assignments": Events(
        "Assignments",
        "What the controller assigned to devices, and what each device says it made of it.",
        ("planner:assignment:", "agent:assignment:"),
    ),
    "loads": Events(
        "Models in memory",
        "When devices loaded and unloaded which model, and whose signature they verified before.",
        (
            *(Tag.MODEL_LOADED, Tag.MODEL_UNLOADED, Tag.MODEL_ENDED),
            *(Tag.MODEL_CRASHED, Tag.MODEL_QUARANTINED),
        ),
    ),
    "gates": Events(
        "Groups and gates",
        "When the groups of rollouts began and ended, and who let the next one go on.",
        (Tag.ROLLOUT_GROUP_MOVED, Tag.ROLLOUT_PROMOTED, Tag.ROLLOUT_JOINED),
    ),
    "aborts": Events(
        "Aborts, stops and ways back",
        "Rollouts that were paused, stopped or taken back, by whom or by which criterion.",
        (
            *(Tag.ROLLOUT_ABORTED, Tag.ROLLOUT_PAUSED, Tag.ROLLOUT_RESUMED, Tag.ROLLOUT_STOPPED),
            *(Tag.ROLLOUT_ROLLED_BACK, Tag.ROLLOUT_DENIED, Tag.ROLLOUT_RETRIED),
            *(Tag.DEVICE_FELL_BACK, Tag.DEVICE_RECOVERED, Tag.ALIAS_RETURNED),
        ),
    ),
    "overrides": Events(
        "Emergency overrides",
        "Rollouts that were let pass windows, budgets and pace, or approvals; and who reviewed it.",
        (Tag.ROLLOUT_OVERRIDDEN, Tag.APPROVAL_OVERRIDDEN, Tag.OVERRIDE_REVIEWED),
    ),
    "refusals": Events(
        "Refusals",
        "What was not accepted: models, metadata, assignments, devices and their messages.",
        (
            *(Tag.RELEASE_REFUSED, Tag.METADATA_REFUSED, Tag.MODEL_REFUSED),
            *(Tag.ASSIGNMENT_REFUSED, Tag.DEVICE_ENROLMENT_REFUSED),
            *(Tag.DEVICE_ENROLMENT_CONTESTED, Tag.DEVICE_RENEWAL_REFUSED),
            Tag.DEVICE_MESSAGE_REFUSED,
        ),
    ),
    "access_changes": Events(
        "Changes of access",
        "Who made, changed, gave and took away users, roles and tokens.",
        (
            *("operator:user:", "operator:role:", "operator:token:", "provider:role:"),
            Tag.PASSWORD_SET,
        ),
    ),
    "sign_ins": Events(
        "Sign-ins, failures and lockouts",
        "Sessions that began and ended, attempts that failed, names that were locked, and requests"
        " that were denied.",
        (
            *("operator:login:", "operator:session:", Tag.AUTH_DENIED),
            *("provider:login:", "provider:logout:"),
        ),
    ),
    "enrolments": Events(
        "Devices",
        "Which devices were enrolled, renewed, labelled, quarantined and removed.",
        (
            *(Tag.DEVICE_ENROLLED, Tag.DEVICE_RENEWED, Tag.DEVICE_LABELLED, Tag.DEVICE_REMOVED),
            *(Tag.DEVICE_QUARANTINED, Tag.DEVICE_RELEASED, Tag.DEVICE_COPY_SUSPECTED),
        ),
    ),
    "alarms": Events(
        "Alarms about the logs",
        "Logs that were found broken, rewound or silent, what was lost, and what was late.",
        (
            *("device:audit:", Tag.AUDIT_DIVERGED, Tag.JOURNAL_SUMMED, Tag.DEVICE_REPORTS_LOST),
            *(Tag.DEVICE_COPY_SUSPECTED, Tag.DEVICE_QUARANTINED),
            *(Tag.CHECKPOINT_LATE, Tag.FORWARDING_LATE),
        ),
    ),
    "witnesses": Events(
        "Witnesses and keys of the log",
        "Checkpoints of the log that somebody else cosigned, and when its own key was replaced.",
        (Tag.CHECKPOINT_COSIGNED, Tag.LOG_REKEYED),
    ),
    "processes": Events(
        "Starts, stops and configuration",
        "When the controller and the agents were started and stopped, and what of their"
        " configuration changed.",
        (
            *("controller:process:", "agent:process:"),
            *("agent:configuration:", "agent:capture:"),
        ),
    ),
}
