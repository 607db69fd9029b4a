"""A report as a page: one file without scripts, that asks for nothing from anywhere. Pure.

Its own policy forbids all but its one style sheet, which is allowed by its hash. What devices and
people wrote is escaped; a long table shows its first rows, and says where the others are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, cast

from sprat_proto import canonical

from sprat_controller.report.record import Json, mapping

MOST_ROWS: Final = 200
MOST_FAULTS: Final = 10  # named at the top
_SHORT: Final = 12
_LONG: Final = 300
_MILLI: Final = 1000
_PPM_PER_PERCENT: Final = 10_000
_NANO: Final = 1_000_000_000
_DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_MINUTE_S: Final = 60

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--back:#fff;
--band:#f6f8fa;--mark:#0b5394;--warn:#9a3412}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b3;--line:#3d444d;--back:#0d1117;
--band:#161b22;--mark:#79b8ff;--warn:#ffa657}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:78rem;padding:2rem 1.5rem 4rem;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .3rem}
h2{font-size:1.15rem;margin:2.6rem 0 .2rem}
p{margin:.2rem 0 .8rem;max-width:60rem}
.soft{color:var(--soft)}.warn{color:var(--warn);font-weight:600}
.fault{color:var(--warn);border:1px solid var(--warn);border-radius:6px;margin:1.2rem 0;
padding:.6rem 1.2rem}
.fault ul{margin:.2rem 0;padding-left:1.2rem}
a{color:var(--mark)}
dl{display:flex;flex-wrap:wrap;gap:.8rem 2.4rem;margin:1.2rem 0;padding:1rem 1.2rem;
background:var(--band);border:1px solid var(--line);border-radius:6px}
dt{font-size:.8rem;color:var(--soft)}dd{margin:0;font-size:1.1rem;font-weight:600}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.86rem;margin-top:.4rem}
th{text-align:left;font-weight:600;color:var(--soft);border-bottom:2px solid var(--line)}
th,td{padding:.35rem .9rem .35rem 0;vertical-align:top}
td{border-bottom:1px solid var(--line);overflow-wrap:break-word}
td.n,th.n{text-align:right;white-space:nowrap}
code{font:.92em/1.4 ui-monospace,monospace}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--back:#fff;--band:#fff;--mark:#000;
--warn:#000}body{max-width:none;padding:0;font-size:9.5pt}table{font-size:7.5pt}
h2{break-after:avoid}tr{break-inside:avoid}thead{display:table-header-group}.wide{overflow:visible}
@page{size:A4 landscape;margin:14mm}}
"""
_POLICY: Final = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"

Cell = Callable[[Json], str]  # as HTML


def render(report: Json) -> str:
    """Return the page."""
    tables: dict[str, Json] = report["tables"]
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(digest)}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(report['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(report['title'])}</h1>",
        f'<p class="soft">{escape(_period(report))}</p><p>{escape(report["note"])}</p>',
        *_faults(tables),
        _figures(tables),
        *_clauses(report["clauses"], tables),
        *(part for name, table in tables.items() for part in _section(name, table)),
        (
            '<p class="soft">The numbers under “records” are positions in the log that is named:'
            " <code>evidence.jsonl</code> is the controller's, <code>devices/</code> has the"
            " devices'. <code>README.md</code> says how to check them.</p></body></html>\n"
        ),
    ]
    return "\n".join(parts)


def _period(report: Json) -> str:
    since, until = _when(report["since"]), _when(report["until"])
    if since or until:
        said = f"From {since or 'the beginning'} until {until or 'the report was made'}."
    else:
        said = "From the first record that is kept until the report was made."
    wanted = [f"{name} {value}" for name, value in report["wanted"].items()]
    part = f" Only a part of the log: {', '.join(wanted)}." if wanted else ""
    return f"{said} Made {_when(report['made_at'])}. All times are UTC.{part}"


def _faults(tables: Mapping[str, Json]) -> Iterator[str]:
    """Say first of all which logs are not as they were signed, or not there."""
    logs: Sequence[Json] = tables["logs"]["statements"] if "logs" in tables else []
    broken = [one for one in logs if one["fault"] and one["file"]]
    missing = [one for one in logs if not one["file"]]
    for faulty, title in (
        (broken, "What follows rests also on logs that are not proved"),
        (missing, "Of these devices there is no log in this report"),
    ):
        if faulty:
            told = "".join(
                f"<li><strong>{_cut(one['log'])}</strong> {_cut(one['fault'])}</li>"
                for one in faulty[:MOST_FAULTS]
            )
            more = len(faulty) - MOST_FAULTS
            told += f"<li>and {more} more: see <a href='#logs'>Logs</a></li>" if more > 0 else ""
            yield f'<div class="fault"><p>{title}:</p><ul>{told}</ul></div>'


def _figures(tables: Mapping[str, Json]) -> str:
    logs: Sequence[Json] = tables["logs"]["statements"] if "logs" in tables else []
    shown = [("records in the controller's log", str(logs[0]["present"]))] if logs else []
    shown += [("devices", str(len(logs) - 1))] if logs else []
    if logs:
        witnesses = len(logs[0].get("signed_by", [])) - 1
        shown += [
            ("expired records", str(sum(one["expired"] for one in logs))),
            ("witnesses of the checkpoint", str(max(witnesses, 0))),
        ]
    counted = {"runs": "runs of models", "updates": "updates", "access": "roles held"}
    counted |= {"alarms": "alarms", "refusals": "refusals", "overrides": "overrides"}
    for name, title in counted.items():
        if name in tables:
            shown.append((title, str(len(tables[name]["statements"]))))
    pairs = "".join(f"<div><dt>{escape(title)}</dt><dd>{n}</dd></div>" for title, n in shown)
    return f"<dl>{pairs}</dl>"


def _clauses(clauses: Sequence[Json], tables: Mapping[str, Json]) -> Iterator[str]:
    yield "<h2>What is evidence for what</h2>"
    rows: list[str] = []
    for one in clauses:
        links = [
            f'<a href="#{name}">{escape(tables[name]["title"])}</a>'
            f" {len(tables[name]['statements'])}"
            for name in one["tables"]
            if tables[name]["statements"]
        ]
        found = " · ".join(links) or '<span class="warn">no evidence in this period</span>'
        rows.append(
            f"<tr><td><strong>{escape(one['clause'])}</strong></td><td>{escape(one['about'])}</td>"
            f"<td>{found}</td></tr>"
        )
    head = "<tr><th>Clause</th><th>What it is about</th><th>Evidence, and how much</th></tr>"
    yield _table(head, rows)


def _section(name: str, table: Json) -> Iterator[str]:
    statements: Sequence[Json] = table["statements"]
    yield f'<h2 id="{name}">{escape(table["title"])}</h2>'
    yield f'<p class="soft">{escape(table["about"])}</p>'
    if not statements:
        yield '<p class="warn">Nothing in this period.</p>'
        return
    columns = COLUMNS.get(name, _EVENT)
    # A column in which nobody says anything is none.
    kept = {title: cell for title, cell in columns.items() if any(map(cell, statements))}
    head = "".join(f"<th>{escape(title)}</th>" for title in kept)
    rows = [
        "<tr>" + "".join(f"<td>{cell(one)}</td>" for cell in kept.values()) + "</tr>"
        for one in statements[:MOST_ROWS]
    ]
    yield _table(f"<tr>{head}</tr>", rows)
    if len(statements) > MOST_ROWS:
        more = len(statements) - MOST_ROWS
        yield f'<p class="soft">And {more} more: all are in <code>report.json</code>.</p>'


def _table(head: str, rows: Sequence[str]) -> str:
    body = "\n".join(rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _when(said: str) -> str:
    """Return a moment as people read it, in the words of the record."""
    day, _, rest = said.partition("T")
    return f"{day} {rest[:8]}".strip() if rest.endswith("+00:00") else said


def _text(name: str) -> Cell:
    return lambda one: _cut(one.get(name, ""))


def _time(name: str) -> Cell:
    return lambda one: escape(_when(str(one.get(name, ""))))


def _digest(name: str) -> Cell:
    return lambda one: f"<code>{_cut(one[name], _SHORT)}</code>" if one.get(name) else ""


def _cut(value: object, most: int = _LONG) -> str:
    said = value if isinstance(value, str) else canonical.encode(value).decode() if value else ""
    return escape(said if len(said) <= most else f"{said[:most]}…")


def _records(one: Json) -> str:
    def listed(seqs: Sequence[int]) -> str:
        shown = ", ".join(map(str, seqs[:6]))
        return f"{shown}, … ({len(seqs)})" if len(seqs) > 6 else shown  # noqa: PLR2004 - a line

    return "<br>".join(
        f'<span class="soft">{escape(log)}</span> {listed(seqs)}'
        for log, seqs in one["records"].items()
    )


def _detail(one: Json) -> str:
    pairs = {**mapping(one.get("detail"))}
    if one.get("before") or one.get("after"):
        pairs = {name: value for name, value in pairs.items() if name not in {"from", "to"}}
        pairs = {"": f"{one.get('before', '')} → {one.get('after', '')}", **pairs}
    if one.get("reason"):
        pairs["reason"] = one["reason"]
    said = [f"{name} {_plain(value)}".strip() for name, value in pairs.items() if value != ""]
    return _cut("; ".join(said))


def _plain(value: object) -> str:
    match value:
        case str():
            # A digest is known by its beginning.
            is_digest = len(value) == 64 and value.isalnum()  # noqa: PLR2004 - SHA-256 in hex
            return f"{value[:_SHORT]}…" if is_digest else value
        case Mapping():
            pairs: dict[str, object] = mapping(cast("object", value))
            return ", ".join(f"{name} {_plain(one)}" for name, one in pairs.items() if one != "")
        case _:
            return canonical.encode(value).decode()


def _yes(name: str, no: str = "no") -> Cell:
    return lambda one: "yes" if one.get(name) else f'<span class="warn">{no}</span>'


def _lasted(one: Json) -> str:
    if "behind_s" not in one:
        return ""
    said = duration(one["behind_s"])
    return f'<span class="warn">{said}, still</span>' if one["is_behind"] else said


def duration(s: int) -> str:
    """Return how long it was, in its two largest units."""
    if s < _MINUTE_S:
        return f"{s} s"
    if s < _HOUR_S:
        return f"{s // _MINUTE_S} min {s % _MINUTE_S} s"
    if s < _DAY_S:
        return f"{s // _HOUR_S} h {s % _HOUR_S // _MINUTE_S} min"
    return f"{s // _DAY_S} d {s % _DAY_S // _HOUR_S} h"


def _evaluation(one: Json) -> str:
    said = mapping(one.get("evaluation"))
    if not said:
        return '<span class="warn">none</span>'
    parts: list[str] = []
    if "perplexity_milli" in said:
        parts.append(f"perplexity {said['perplexity_milli'] / _MILLI:.3f}")
    if "loss_ppm" in said:
        parts.append(
            f"{said['loss_ppm'] / _PPM_PER_PERCENT:.4f} % worse than {said.get('reference', '')}"
        )
    if "kl_nano" in said:
        parts.append(f"KL {said['kl_nano'] / _NANO:.6f}")
    if "same_top_ppm" in said:
        parts.append(f"same choice {said['same_top_ppm'] / _PPM_PER_PERCENT:.2f} %")
    return escape(", ".join(parts))


def _model(one: Json) -> str:
    digest = str(one.get("digest", ""))[:_SHORT]
    return f"{_cut(one.get('model', ''))} <code class='soft'>{escape(digest)}</code>"


def _until(one: Json) -> str:
    return escape(_when(one["until"])) or "<strong>still</strong>"


def _scope(one: Json) -> str:
    return _cut(one["scope"]) or "everything"


def _many(name: str) -> Cell:
    def cell(one: Json) -> str:
        value: Any = one.get(name)
        if isinstance(value, Mapping):
            return _cut(_plain(mapping(cast("object", value))))
        return _cut(", ".join(map(str, value or [])))

    return cell


_EVENT: Final[Mapping[str, Cell]] = {
    "When": _time("at"),
    "Who": _text("who"),
    "What": _text("what"),
    "To what": _text("subject"),
    "Outcome": lambda one: (
        ""
        if one.get("outcome") == "success"
        else f'<span class="warn">{_text("outcome")(one)}</span>'
    ),
    "More": _detail,
    "Records": _records,
}
COLUMNS: Final[Mapping[str, Mapping[str, Cell]]] = {
    "logs": {
        "Log": _text("log"),
        "Records": lambda one: str(one["present"]) if one["file"] else "",
        "Expired": lambda one: str(one["expired"] or ""),
        "First": _time("first_at"),
        "Last": _time("last_at"),
        "Signed by": _many("signed_by"),
        "Root": _digest("root"),
        "Whole": _yes("whole"),
        "Key bound": _yes("key_bound"),
        "Clock": _many("clocks"),
        "What is wrong": lambda one: (
            f'<span class="warn">{_cut(one["fault"])}</span>' if one["fault"] else ""
        ),
    },
    "runs": {
        "Device": _text("device"),
        "Alias": _text("alias"),
        "Model": _model,
        "From": _time("from"),
        "Until": _until,
        "Ended by": _text("ended_by"),
        "Kind": _text("kind"),
        "Assigned": _time("assigned_at"),
        "Rollout": _text("rollout"),
        "Records": _records,
    },
    "models": {
        "Model": _model,
        "Licence": _text("licence"),
        "Evaluation": _evaluation,
        "Publisher": _text("publisher"),
        "Published": _time("published_at"),
        "By": _text("published_by"),
        "Signature verified on devices": _many("signatures_verified"),
        "Withdrawn": _time("retired_at"),
        "Records": _records,
    },
    "usage": {
        "Hour": _time("hour"),
        "Device": _text("device"),
        "Model": _model,
        "Outcome": _text("outcome"),
        "Requests": lambda one: str(one["count"]),
        "Tokens in": lambda one: str(one["tokens_in"]),
        "Tokens out": lambda one: str(one["tokens_out"]),
        "Records": _records,
    },
    "updates": {
        "Device": _text("device"),
        "Model": _model,
        "Published": _time("published_at"),
        "Assigned": _time("assigned_at"),
        "Verified": _time("verified_at"),
        "In use": _time("active_at"),
        "Behind": _lasted,
        "State": _text("state"),
        "Reason": _text("reason"),
        "Records": _records,
    },
    "rollouts": {
        "Rollout": _text("rollout"),
        "Release": _text("release"),
        "Alias": _text("alias"),
        "Author": _text("author"),
        "Created": _time("created_at"),
        "Strategy": _digest("strategy_sha256"),
        "Approvals": lambda one: str(one["approvals"] or ""),
        "State": _text("state"),
        "Since": _time("state_at"),
        "Devices": _many("outcomes"),
        "Records": _records,
    },
    "approvals": {
        "Rollout": _text("rollout"),
        "Author": _text("author"),
        "Edited by": _many("edited_by"),
        "Approver": _text("approver"),
        "When": _time("at"),
        "Independent": _yes("independent"),
        "What": _digest("spec_sha256"),
        "Signature": _text("signature"),
        "Records": _records,
    },
    "access": {
        "Who": _text("subject"),
        "Role": _text("role"),
        "Over": _scope,
        "Since": _time("since"),
        "Given by": _text("given_by"),
        "Until": _until,
        "Taken by": _text("taken_by"),
        "Disabled": _time("disabled_at"),
        "Last seen": _time("last_seen_at"),
        "Records": _records,
    },
    "tokens": {
        "Owner": _text("owner"),
        "Name": _text("name"),
        "Role": _text("role"),
        "Over": _scope,
        "Since": _time("since"),
        "Given by": _text("given_by"),
        "Expires": _time("expires_at"),
        "Revoked": _time("until"),
        "Last seen": _time("last_seen_at"),
        "Records": _records,
    },
    "last_used": {
        "Who": _text("subject"),
        "By": _text("kind"),
        "Which": _text("id"),
        "Last used": lambda one: escape(_when(one["at"])) or "never",
    },
}
