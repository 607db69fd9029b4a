"""What is asked for by whom, and which tables of a report are evidence for it. Pure.

A clause is named by its number and, in our own words, by what it is about. Whether evidence is
enough is for the reader to judge: nothing here says that somebody complies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Framework(StrEnum):
    """What a report is for; as people name it."""

    EU_AI_ACT = "eu-ai-act"
    ISO_27001 = "iso-27001"
    IEC_62443 = "iec-62443"
    CRA = "cra"


@dataclass(frozen=True)
class Clause:
    """A clause, and what is evidence for it.

    Attributes:
        number: As its text has it.
        about: What it is about, in our words.
        tables: Names of the report's tables, the most telling first.
    """

    number: str
    about: str
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Standard:
    """A text with clauses."""

    title: str
    clauses: tuple[Clause, ...]

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables that its clauses name, in the order of `compose.TABLES`."""
        return tuple(dict.fromkeys(name for one in self.clauses for name in one.tables))


STANDARDS: Final[Mapping[Framework, Standard]] = {
    Framework.EU_AI_ACT: Standard(
        "EU AI Act (Regulation (EU) 2024/1689): record-keeping",
        (
            Clause(
                "Art. 12(1)",
                "events are recorded automatically over the lifetime of the system",
                ("logs", "runs", "models", "loads", "usage", "processes"),
            ),
            Clause(
                "Art. 12(2)(a)",
                "records let situations of risk and substantial changes be found",
                (
                    *("updates", "rollouts", "approvals", "gates", "aborts"),
                    *("refusals", "overrides", "releases"),
                ),
            ),
            Clause(
                "Art. 12(2)(b)",
                "records help to watch the system after it was placed on the market",
                ("runs", "models", "usage", "aborts"),
            ),
            Clause(
                "Art. 12(2)(c)",
                "records help deployers to watch the operation",
                ("usage", "loads", "alarms"),
            ),
            Clause(
                "Art. 19(1)",
                "providers keep the logs, for at least six months if no other law says otherwise",
                ("logs", "alarms", "witnesses"),
            ),
            Clause(
                "Art. 26(5)",
                "deployers watch the operation",
                ("usage", "aborts", "refusals", "alarms"),
            ),
            Clause(
                "Art. 26(6)",
                "deployers keep the logs, for at least six months if no other law says otherwise",
                ("logs", "alarms", "witnesses"),
            ),
        ),
    ),
    Framework.ISO_27001: Standard(
        "ISO/IEC 27001:2022, Annex A: logging and access",
        (
            Clause(
                "A.8.15",
                "logs of activities, exceptions, faults and events are made, kept, protected and"
                " looked at",
                ("logs", "alarms", "witnesses", "refusals", "processes"),
            ),
            Clause("A.8.17", "clocks are synchronised", ("logs",)),
            Clause("A.5.18", "access is given, reviewed and taken away", ("access", "tokens")),
            Clause(
                "A.8.2",
                "privileged access is restricted and managed",
                ("access", "access_changes", "overrides"),
            ),
            Clause("A.8.5", "people and services show who they are", ("sign_ins", "last_used")),
            Clause("A.5.3", "conflicting duties are apart", ("approvals", "rollouts", "access")),
            Clause(
                "A.8.32",
                "changes go through a procedure",
                ("rollouts", "approvals", "gates", "aborts", "releases"),
            ),
        ),
    ),
    Framework.IEC_62443: Standard(
        "IEC 62443-3-3: system security requirements on audit and access",
        (
            Clause("SR 1.3", "accounts are managed", ("access", "tokens", "access_changes")),
            Clause("SR 1.11", "failed attempts to sign in are limited", ("sign_ins",)),
            Clause("SR 2.1", "authorisations are enforced", ("access", "overrides", "sign_ins")),
            Clause(
                "SR 2.8",
                "events that matter to security are recorded",
                (
                    *("logs", "sign_ins", "access_changes", "refusals", "enrolments"),
                    *("assignments", "processes"),
                ),
            ),
            Clause("SR 2.9", "there is room for the records", ("logs", "alarms")),
            Clause("SR 2.10", "failures of recording are met", ("alarms", "refusals")),
            Clause("SR 2.11", "records have the time", ("logs",)),
            Clause(
                "SR 2.12",
                "who did something cannot deny it",
                ("approvals", "rollouts", "signatures", "witnesses"),
            ),
            Clause(
                "SR 3.4",
                "software and information are what they are to be",
                ("models", "loads", "refusals", "signatures"),
            ),
            Clause("SR 3.9", "records are protected", ("logs", "alarms", "witnesses")),
            Clause("SR 6.1", "those who may can read the records", ("logs", "access")),
            Clause("SR 6.2", "security is watched all the time", ("alarms", "enrolments")),
        ),
    ),
    Framework.CRA: Standard(
        "Cyber Resilience Act (Regulation (EU) 2024/2847), Annex I: updates",
        (
            Clause(
                "Part I (2)(c)",
                "vulnerabilities can be met by security updates",
                ("updates", "releases", "rollouts"),
            ),
            Clause(
                "Part I (2)(d)",
                "there is protection from unauthorised access",
                ("access", "sign_ins", "refusals"),
            ),
            Clause(
                "Part I (2)(f)",
                "programs and configuration are protected from changes, and damage is reported",
                ("models", "loads", "refusals", "signatures", "alarms"),
            ),
            Clause(
                "Part I (2)(l)",
                "access to and changes of data, services and functions are recorded",
                ("logs", "runs", "access_changes", "processes"),
            ),
            Clause(
                "Part II (2)",
                "vulnerabilities are met without delay",
                ("updates", "releases"),
            ),
            Clause(
                "Part II (7)",
                "updates are distributed securely",
                ("models", "signatures", "approvals", "updates", "refusals"),
            ),
            Clause("Part II (8)", "updates come without delay", ("updates", "aborts")),
        ),
    ),
}
