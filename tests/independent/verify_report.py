"""Says a report again from its records alone: verify_report.py FOLDER KEY (`sprat audit key`)."""

# fmt: off
# pyright: basic
import base64, hashlib, json, re, sys  # 150 lines are what somebody reads: untyped JSON, long lines
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
LISTS = "93e7fe41cead15eafe13b19b6f77325c306d1e1c8282155d5f5fc285a6c465ba"  # SHA-256 of which tags are listed in which table: `lists` of a report
OVER, SHA, B64 = {"ROLLED_BACK", "FAILED", "CANCELED", "REJECTED"}, hashlib.sha256, base64.b64decode
AT, OWN = datetime.fromisoformat, {"strategy_sha256", "manifest"}
MORE = ("outcome", "reason", "before", "after", "scope", "detail")  # of a record that is listed
FIELDS = {"runs": "device alias digest kind execution from until ended_by",
          "access": "subject role scope given_by binding since until taken_by",
          "approvals": "rollout author approver spec_sha256 key at at independent"}
def need(ok, message):
    if not ok:
        sys.exit(message)
def top(leaves):  # RFC 6962: the root of a log
    at = 1 << (len(leaves) - 1).bit_length() - 1 if len(leaves) > 1 else 0
    return SHA(b"\1" + top(leaves[:at]) + top(leaves[at:])).digest() if at else leaves[0]
def climb(leaf, at, size, proof):  # the root that a proof of inclusion leads to
    if size == 1 or not proof:
        return leaf if size == 1 and not proof else b""
    low, other = 1 << (size - 1).bit_length() - 1, proof.pop()
    pair = [climb(leaf, at % low, low if at < low else size - low, proof), other]
    return SHA(b"\1" + b"".join(pair if at < low else pair[::-1])).digest()
def read_log(path, vkey):  # records by position, and what else there is to say of the log
    head, *lines, last = path.read_bytes().split(b"\n")[:-1]
    head, at = json.loads(head), next((it for it, one in enumerate(lines, 1) if one[:6] == b'{"end"'), 0)
    name, key_id, key = (vkey or head["key"]).split()[-1].split("+", 2)  # a device's own: see `pins`
    text, _, signatures = head["checkpoint"].partition("\n\n")
    told = [B64(it.split(" ")[2]) for it in signatures.splitlines() if it.split(" ")[1] == name]
    told = [it[4:] for it in told if it[:4].hex() == key_id and text.split("\n")[0] == name]
    need(told, f"{path.name}: the checkpoint is not of {name}, or not signed by its key")
    public = Ed25519PublicKey.from_public_bytes(B64(key)[1:])
    public.verify(told[0], f"{text}\n".encode())  # C2SP: signed-note, tlog-checkpoint
    size, root = int(text.split("\n")[1]), B64(text.split("\n")[2])
    whole, records, leaves, before = head.get("whole", True), {}, [], 0
    for line, told in ((one, json.loads(one)) for one in lines[at:] if one.startswith(b'{"hash"')):
        body = B64(told["bytes"]) if "bytes" in told else line.partition(b'"record":')[2][:-1]
        seq = json.loads(body)["seq"] if body else told["expired"]
        leaves.append(SHA(b"\0" + body).digest() if body else bytes.fromhex(told["hash"]))
        need(leaves[-1].hex() == told["hash"], f"{path.name}: record {seq} is not its hash's")
        need(seq == before + 1 or (seq > before and not whole), f"{path.name}: {seq} is misplaced")
        found = whole or climb(leaves[-1], seq - 1, size, [*map(B64, told["proof"])]) == root
        need(found, f"{path.name}: record {seq} is not in the log")
        before = seq
        records.update({seq: json.loads(body)} if body else {})
    need(json.loads(last) == {"end": len(leaves)}, f"{path.name}: expected {len(leaves)} records")
    need(not whole or (len(leaves), top(leaves or [b""])) == (size, root), f"{path.name}: the records are not those that were signed")
    pin = public.public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    facts = {"present": len(records), "expired": len(leaves) - len(records), "size": size, "origin": name}
    return records, facts | {"root": root.hex(), "whole": whole}, SHA(pin).hexdigest()
def who(one):
    said = one["actor"] if isinstance(one["actor"], dict) else {"type": "system", "id": one["actor"]}
    return said["id"] if said["type"] in {"system", "unknown"} else f"{said['type']}:{said['id']}"
def runs(device, records):  # which model an alias stood for (or soaked) from when until when
    now, tried, over = {}, {}, []
    for one in records.values():
        said, tag, what = one.get("detail", {}), one["tag"], one["subject"].partition("/")[2]
        phase = said.get("phase") if tag == "agent:execution:entered" else ""
        alias, begins = said.get("alias", what), phase == "SUCCEEDED" or tag == "agent:alias:returned"
        new = (device, alias, said.get("digest", said.get("to")))
        trial = tried.pop(what, None) if phase == "SUCCEEDED" or phase in OVER else None
        over += [(*trial, one["ts"], phase)] if trial and phase in OVER else []
        tried |= {what: (*new, "trial", what, one["ts"])} if phase == "SOAKING" else {}
        is_same = begins and now.get(alias, ())[:3] == new
        if not is_same and (begins or tag in {"agent:alias:forgotten", "agent:model:ended"}):
            over += [(*now.pop(alias), one["ts"], tag)] if alias in now else []
            now |= {alias: (*new, "committed", what if phase else "", one["ts"])} if begins else {}
    return over + [(*one, "", "") for one in (*now.values(), *tried.values())]
def people(folder, records):  # roles held, approvals given: whether by others, and signed so
    held, past, owner, authors, found = {}, [], {}, {}, []
    keys = json.loads((folder / "approvers.json").read_bytes())
    for one in records.values():
        said, what, tag, gone, new = one.get("detail", {}), one["subject"], one["tag"], {}, {}
        if tag in {"operator:role:granted", "operator:role:taken", "provider:role:given"}:
            gone, new = ({said["binding"]: (it["role"], it["scope"])} if isinstance(it, dict) and it
                         else {f"{what} {one}": one.split(" over ") for one in it}
                         for it in (said["before"], said["after"]))
        what, by, at = what.partition("/")[2], who(one), one["ts"]
        held |= {it: (*held[it][:6], *((said.get("until", ""), "") if it in new else (at, by))) for it in {*gone} & {*held}}
        past += [held[it] for it in {*new} - {*gone} if it in held]
        held |= {it: (what, new[it][0], new[it][1].replace("everything", ""), by, it, at, said.get("until", ""), "")
                 for it in {*new} - {*gone}}
        owner |= {what: said["after"]["owner"]} if tag == "operator:user:created" else {}
        if tag in {"operator:rollout:created", "operator:rollout:edited"}:
            authors[what] = [*authors.get(what, [""] * tag.endswith("edited")), by]
        elif tag == "operator:rollout:approved":
            file, author = folder / "approvals" / what / f"{said['key']}.json", authors.get(what, [""])
            if said["key"] in keys and file.exists():
                dsse, key = json.loads(file.read_bytes()), forms.load_pem_public_key(keys[said["key"]].encode())
                kind, payload = dsse["payloadType"].encode(), B64(dsse["payload"])
                need(SHA(payload).hexdigest() == said["spec"], f"{file}: of something else")
                signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
                sig = {it["keyid"]: it["sig"] for it in dsse["signatures"]}[said["key"]]
                assert isinstance(key, Ed25519PublicKey), f"{file}: not a key of Ed25519"
                key.verify(B64(sig), signed)
            alone = author[0] and (owner.get(by) or by) not in [owner.get(it) or it for it in author]
            found += [(what, author[0], by, said["spec"], said["key"], at, at, bool(alone))]
    return past + list(held.values()), found
def main(folder, key):
    report = json.loads((folder / "report.json").read_bytes())
    table, logs, pins = {it: one["statements"] for it, one in report["tables"].items()}, {}, {}
    need(SHA(json.dumps(report["lists"], sort_keys=True).encode()).hexdigest() == LISTS, "lists")
    for one in (it for it in table["logs"] if it["file"]):
        name, path = one["log"], folder / one["file"]
        logs[name], facts, pins[name] = read_log(path, key if name == "controller" else "")
        need(facts.items() <= one.items(), f"logs: {name} has {facts}")
    since, until = (report[it] and AT(report[it]) for it in ("since", "until"))
    def inside(first, last):
        return not ((since and last and AT(last) < since) or (until and AT(first) >= until))
    held, approved = people(folder, logs["controller"])
    found = {"runs": [it for log in logs for it in runs(log, logs[log])], "access": held}
    found |= {"approvals": approved} | {name: [] for name in report["lists"]}
    for log, one in ((it, one) for it in logs for one in logs[it].values()):
        device, pin = one["subject"].partition("/")[2], one.get("detail", {}).get("audit_key_sha256")
        need(log != "controller" or pins.get(device) in {pin, None} or not pin,
             f"{device}: its log is signed by another key than it was enrolled with")
        told = {"records": {log: [one["seq"]]}, "at": one["ts"], "who": who(one), "what": one["tag"]}
        told |= {"subject": one["subject"]} | {it: one[it] for it in MORE if one.get(it)}
        for name, tags in report["lists"].items():
            is_in = one["tag"] in tags or one["tag"].startswith(tuple(it for it in tags if it[-1] == ":"))
            found[name] += [told] if is_in and inside(one["ts"], one["ts"]) else []
    for name, rows in table.items():
        for row in (it for it in rows if it["records"]):
            need(all({*row["records"][it]} <= {*logs.get(it, ())} for it in row["records"]),
                 f"{name}: there are no such records: {row['records']}")
            text = json.dumps([logs[it][seq] for it in row["records"] for seq in row["records"][it]])
            text += (folder / row["manifest"]).read_text() if row.get("manifest") else ""
            said = {it for key, it in row.items() if isinstance(it, str) and key not in OWN}
            odd = [it for it in said if any(part not in text for part in re.split("[+:]", it))]
            need(not odd or name in found or name == "logs", f"{name}: {odd} is in no record: {row}")
            begin, end = row.get("published_at"), row.get("active_at")
            need(not begin or not end or row["behind_s"] == max(0, int((AT(end) - AT(begin)).total_seconds())), f"{row}")
        fields = FIELDS.get(name, "").split()
        said = [tuple(row[it] for it in fields) for row in rows] if fields else rows
        says = [it for it in found.get(name, said) if not fields or inside(*it[5:7])]
        wrong = [it for it in said if it not in says] or [it for it in says if it not in said]
        need(not wrong and len(said) == len(says), f"{name}: {(wrong or ['one is there twice'])[0]}")
    print(f"{sum(map(len, table.values()))} statements follow from {sum(map(len, logs.values()))} records")
if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]).read_text() if "+" not in sys.argv[2] else sys.argv[2])
    except InvalidSignature:
        sys.exit("a signature is not of what it stands beside")
