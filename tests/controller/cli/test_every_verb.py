"""Every verb, found by walking the command itself: bad input, no controller, no permission."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulators import frozen
from simulators.audit_log import AuditLog
from simulators.image_keys import targets_file
from simulators.operator_api import VIEWER, OperatorApi
from simulators.sprat_command import NOW, Sprat
from sprat_controller.cli.parts import PARTS, commands_of
from sprat_controller.signer.keys import Place, open_key, tuf_signer
from sprat_proto.trust import manifest_path

# pyright: reportPrivateImportUsage=false
from tuf.api.metadata import TargetFile, Targets

ISSUER = ["{issuer_pub}", "--ca", "{ca}", "--key", "{root_key}"]
PUSH = ["{gguf}", "--name", "m", "--release", "1.0.0", "--key", "{key}", "--no-evaluation"]
STATE = ["--alias", "a", "--release", "talk@1.0.0", "--variant", "q4_0", "--out", "{new}"]
RECURRING = ["talk", "--channel", "stable", "--alias", "a"]
# A verb's bad inputs, and how each ends. `{key}` and `{gguf}` are files that are there.
BAD: dict[str, list[tuple[list[str], int]]] = {
    "login": [
        ([], 64),
        (["http://controller.test"], 64),
        (["https://"], 64),
        (["https://controller.test:no"], 64),
        (["https://controller.test/elsewhere"], 64),
        (["https://user@controller.test"], 64),
        (["https://controller.test", "--token", "sprat_wrong"], 4),
        (["https://controller.test", "--token", "a b"], 4),
        (["https://controller.test", "--token", ""], 4),
        (["https://controller.test", "--token-file", "/no/such/file"], 1),
        (["https://controller.test", "--ca", "/no/such/file"], 1),
        (["https://controller.test", "--ca", "{text}"], 1),
        (["https://controller.test", "--user", "A B", "--password-file", "{text}"], 64),
        (["https://controller.test", "--user", "root", "--password-file", "/no/such/file"], 1),
        (["https://controller.test", "--user", "root", "--password-file", "{text}"], 4),
        (["https://controller.test", "--user", "root"], 64),
        (["https://controller.test", "--password-file", "{text}"], 64),
        (["https://controller.test", "--oidc"], 1),
        (["https://controller.test", "--oidc", "--user", "root"], 64),
        (["https://controller.test", "--oidc", "--token-file", "{text}"], 64),
        (["https://controller.test", "--oidc", "--password-file", "{text}"], 64),
    ],
    "whoami": [(["--token", "sprat_wrong"], 4), (["--url", "ftp://x"], 64), (["extra"], 64)],
    "tokens create": [
        ([], 64),
        (["someone"], 64),
        (["someone", "--role", "The Emperor"], 64),
        (["someone", "--role", "viewer", "--for", "device:gw-1"], 64),
        (["someone", "--role", "viewer", "--expires-days", "400"], 64),
        (["Some One", "--role", "viewer"], 64),
        (["someone", "--role", "viewer", "--expires-days", "0"], 64),
        (["someone", "--role", "viewer", "--expires-days", "soon"], 64),
    ],
    "users list": [(["extra"], 64)],
    "users create": [([], 64), (["Some One"], 64), (["bob", "--role", "The Emperor"], 64)],
    "users disable": [([], 64), (["nobody"], 1), (["../x"], 64), (["device:gw-1"], 64)],
    "users enable": [([], 64), (["nobody"], 1), (["a b"], 64)],
    "roles list": [(["extra"], 64)],
    "roles create": [([], 64), (["night"], 64), (["No Name", "--allow", "fleet:read"], 64)],
    "roles change": [(["night"], 64), (["../x", "--allow", "fleet:read"], 64)],
    "roles remove": [([], 64), (["nothing"], 1), (["../x"], 64)],
    "bindings list": [(["--of", "a b"], 64), (["extra"], 64)],
    "bindings grant": [(["bob"], 64), (["a b", "viewer"], 64), (["bob", "The Emperor"], 64)],
    "bindings revoke": [([], 64), (["nothing"], 1), (["../x"], 64)],
    "logout": [(["extra"], 64), (["--token", "sprat_wrong"], 4)],
    "sessions list": [(["extra"], 64)],
    "sessions revoke": [([], 64), (["nothing"], 1), (["../x"], 64)],
    "users set-password": [
        ([], 64),
        (["a b", "--password-file", "{text}"], 64),
        (["bob"], 64),
        (["bob", "--password-file", "/no/such/file"], 1),
        (["bob", "--password-file", "{binary}"], 1),
        (["bob", "--password-file", "{text}", "--current-file", "/no/such/file"], 1),
    ],
    "tokens list": [(["-o", "papyrus"], 64), (["extra"], 64)],
    "tokens revoke": [([], 64), (["nothing"], 1), (["../devices/gw-1"], 64), ([""], 64)],
    "enrolment create": [
        ([], 64),
        (["Not A Name"], 64),
        (["dev", "--ttl", "soon"], 64),
        (["dev", "--ttl", "1"], 64),
        (["dev", "--label", "nokey"], 64),
        (["dev", "--label", "=value"], 64),
        (["dev", "--label", "a=1", "--label", "a=2"], 64),
        (["dev", "--batch", "kiosk", "--count", "2"], 64),
        (["--batch", "kiosk"], 64),
        (["--count", "2"], 64),
        (["--batch", "Kiosk!", "--count", "2"], 64),
        (["--batch", "kiosk", "--count", "0"], 64),
        (["dev", "--qr", "code.gif"], 64),
        (["dev", "--qr", "/no/such/folder/code.svg"], 1),
        (["dev", "--image-file", "{text}"], 1),
        (["dev", "--image-root", "{text}"], 64),
        (["dev", "--image-file", "{new}", "--image-root", "/no/such/file"], 1),
    ],
    "enrolment list": [(["-o", ""], 64)],
    "enrolment revoke": [([], 64), (["nothing"], 1), (["a/b"], 64)],
    "devices list": [
        (["--where", "site"], 64),
        (["--state", "HAPPY"], 64),
        (["--limit", "0"], 64),
        (["--no-such-option"], 64),
    ],
    "devices show": [([], 64), (["nobody"], 1), (["No Body"], 64), (["a/../b"], 64)],
    "devices label": [
        ([], 64),
        (["gw-1"], 64),
        (["gw-1", "site"], 64),
        (["nobody", "a=b"], 1),
        (["gw-1", "a=b", "a=c"], 64),
    ],
    "devices remove": [([], 64), (["gw-1"], 64), (["nobody", "--yes"], 1)],
    "devices release-quarantine": [([], 64), (["gw-1"], 64), (["nobody", "--yes"], 1)],
    "keys generate": [
        ([], 64),
        (["--out", "{key_base}"], 1),
        (["--out", "/no/such/folder/key"], 1),
        (["--out", "{new}", "--passphrase-file", "/no/such/file"], 1),
        (["--out", "{new}", "--passphrase-file", "{empty}"], 1),
        (["--out", "{new}", "--passphrase-file", "{binary}"], 1),
    ],
    "publishers add": [
        ([], 64),
        (["someone"], 64),
        (["someone", "/no/such/file.pub"], 1),
        (["someone", "{text}"], 1),
        (["someone", "{binary}"], 1),
        (["someone", "{large}"], 1),
        (["someone", "{key}"], 1),
        (["Some One", "{pub}"], 64),
        (["someone", "{pub}"], 64),
        (["someone", "{pub}", "--keys", "{folder}"], 64),
        (["someone", "{pub}", "--sign-with", "/no/such.pem"], 1),
        (["someone", "{pub}", "--sign-with", "{key}"], 64),
        (["someone", "{pub}", "--keys", "{offline}", "--hardware", "gpu"], 64),
    ],
    "publishers list": [(["extra"], 64)],
    "models push": [
        ([], 64),
        (["{gguf}"], 64),
        (["/no/such.gguf", "--name", "m", "--release", "1.0.0", "--key", "{key}"], 6),
        (["{text}", "--name", "m", "--release", "1.0.0", "--key", "{key}"], 6),
        (["{folder}", "--name", "m", "--release", "1.0.0", "--key", "{key}"], 6),
        (["{gguf}", "--name", "A Model", "--release", "1.0.0", "--key", "{key}"], 64),
        (["{gguf}", "--name", "m", "--release", "one", "--key", "{key}"], 64),
        (["{gguf}", "--name", "m", "--release", "1.0.0", "--key", "/no/such.pem"], 1),
        (["{gguf}", "--name", "m", "--release", "1.0.0", "--key", "{text}"], 1),
        (["{gguf}", "--name", "m", "--release", "1.0.0", "--key", "{open_key}"], 1),
        ([*PUSH, "--variants", "q9"], 64),
        ([*PUSH, "--variants", "q4_0,q4_0"], 64),
        ([*PUSH, "--golden", "question"], 64),
        ([*PUSH, "--golden", "=>x"], 64),
        ([*PUSH, "--soak", "-1"], 64),
        ([*PUSH, "--counter", "0"], 64),
        ([*PUSH, "--publisher", "A Name"], 64),
        ([*PUSH, "--hardware", "gpu"], 64),
        ([*PUSH, "--chat-template", "/no/such/file"], 1),
        ([*PUSH, "--max-quality-loss", "5%"], 64),
        ([*PUSH, "--drop-worse"], 64),
        ([*PUSH, "--evaluation", "--drop-worse"], 64),
        ([*PUSH, "--report", "{new}.json"], 64),
        ([*PUSH, "--evaluation", "--report", "{new}.html"], 64),
        ([*PUSH, "--evaluation", "--picture", "{new}.png"], 64),
        ([*PUSH, "--evaluation", "--picture", "/no/such/folder/x.svg"], 1),
        ([*PUSH, "--evaluation", "--max-quality-loss", "some"], 64),
        ([*PUSH, "--evaluation", "--evaluation-tokens", "1"], 64),
        ([*PUSH, "--evaluation", "--calibration", "/no/such/file"], 1),
        ([*PUSH, "--evaluation", "--calibration", "{binary}"], 1),
        ([*PUSH, "--evaluation", "--calibration", "{empty}"], 1),
        ([*PUSH, "--output-dir", "{text}"], 1),
        ([*PUSH, "--scratch", "/no/such/folder/x"], 1),
        ([*PUSH, "--origin", "x" * 1025], 64),
        (["{gguf}" + "x" * 300, *PUSH[1:]], 1),
        ([*PUSH, "--aim", "best"], 64),
        ([*PUSH, "--min-decode-tps", "fast"], 64),
        ([*PUSH, "--pipeline", "/no/such.yaml"], 1),
        ([*PUSH, "--pipeline", "{binary}"], 64),
        ([*PUSH, "--pipeline", "{text}"], 64),
    ],
    "models retire": [
        ([], 64),
        (["talk@1.0.0"], 64),
        (["talk", "--key", "{key}"], 64),
        (["talk@1.0.0", "--key", "{key}"], 1),
    ],
    "trust fetch": [([], 64)],
    "trust ceremony": [
        ([], 64),
        (["{new}", "--renew", "image"], 6),
        (["{ceremony}", "--offline-role", "ann"], 64),
        (["{ceremony}", "--offline-role", "Ann!={pub}"], 64),
        (["{ceremony}", "--offline-role", "ann={text}"], 1),
        (["{ceremony}", "--offline-role", "ann={pub}"], 6),
    ],
    "trust sign": [([], 64), (["{new}"], 64), (["{new}", "--key", "{key}"], 6)],
    "trust lint": [([], 64), (["{new}"], 6)],
    "trust publish": [([], 64), (["{new}"], 6)],
    "trust certify-issuer": [
        ([], 64),
        (ISSUER, 64),
        ([*ISSUER, "--out", "{text}"], 1),
        ([*ISSUER, "--out", "/no/such/folder/x"], 1),
        (["/no/such.pub", *ISSUER[1:], "--out", "{new}"], 1),
        (["{pub}", *ISSUER[1:], "--out", "{new}"], 6),
        (["{root_key}", *ISSUER[1:], "--out", "{new}"], 1),
        (["{issuer_pub}", "--ca", "{text}", "--key", "{root_key}", "--out", "{new}"], 1),
        (["{issuer_pub}", "--ca", "{ca}", "--key", "{key}", "--out", "{new}"], 6),
        (["{issuer_pub}", "--ca", "{ca}", "--key", "/no/such.pem", "--out", "{new}"], 1),
    ],
    "trust policy set": [
        ([], 64),
        (["{text}", "--keys", "{offline}"], 6),
        (["/no/such/file", "--keys", "{offline}"], 1),
        (["{policy}"], 64),
    ],
    "models list": [(["extra"], 64)],
    "models show": [([], 64), (["nothing"], 1), (["talk@9.9.9"], 1), (["talk@new"], 64)],
    "channels list": [([], 64), (["nothing"], 1), (["a/b"], 64)],
    "channels put": [
        ([], 64),
        (["talk@1.0.0"], 64),
        (["talk", "stable"], 64),
        (["talk@1.0.0", "Not A Channel"], 64),
        (["talk@9.9.9", "stable"], 1),
    ],
    "channels remove": [([], 64), (["talk@1.0.0", "a/b"], 64), (["talk@1.0.0", "nothing"], 1)],
    "fit": [
        ([], 64),
        (["talk"], 64),
        (["talk@", "--device", "gw-1"], 64),
        (["Not A Model", "--device", "gw-1"], 64),
        (["talk", "--device", "gw-1", "--class", "c"], 64),
        (["talk", "--device", "No Body"], 64),
        (["talk", "--device", "nobody"], 1),
        (["nothing", "--device", "gw-1"], 1),
        (["talk@9.9.9", "--device", "gw-1"], 1),
        (["talk", "--class", "a/b"], 64),
        (["talk", "--profile", "/no/such/file"], 1),
        (["talk", "--profile", "{text}"], 1),
        (["talk", "--device", "gw-1", "--context", "1"], 64),
        (["talk", "--device", "gw-1", "--kv-type", "q2"], 64),
        (["talk", "--device", "gw-1", "--aim", "sideways"], 64),
        (["talk", "--device", "gw-1", "--max-memory", "much"], 64),
    ],
    "matrix": [
        (["talk@"], 64),
        (["Not A Model"], 64),
        (["nothing"], 1),
        (["--slots", "65"], 64),
        (["--picture", "/no/such/folder/matrix.svg"], 1),
    ],
    "rollout plan": [
        ([], 64),
        (["talk@1.0.0"], 64),
        (["talk", "--alias", "a"], 64),
        (["talk@", "--alias", "a"], 64),
        (["@1.0.0", "--alias", "a"], 64),
        (["talk@9.9.9", "--alias", "a"], 1),
        (["talk@1.0.0", "--alias", "Not An Alias"], 64),
        (["talk@1.0.0", "--alias", "a", "--device", "nobody"], 1),
        (["talk@1.0.0", "--alias", "a", "--device", "No Body"], 64),
        (["talk@1.0.0", "--alias", "a", "--where", "site"], 64),
        (["talk@1.0.0", "--alias", "a", "--context", "1"], 64),
        (["talk@1.0.0", "--alias", "a", "--context", "much"], 64),
        (["talk@1.0.0", "--alias", "a", "--aim", "fastest"], 64),
        (["talk@1.0.0", "--alias", "a", "--min-decode-tps", "fast"], 64),
        (["talk@1.0.0", "--alias", "a", "--max-ttft-ms", "soon"], 64),
        (["talk@1.0.0", "--alias", "a", "--prompt-tokens", "0"], 64),
        (["talk@1.0.0", "--alias", "a", "--max-memory", "2"], 64),
        (["talk@1.0.0", "--alias", "a", "--min-context", "0"], 64),
        (["talk@1.0.0", "--alias", "a", "--max-quality-loss", "little"], 64),
        (["talk@1.0.0", "--alias", "a", "--runtime", "A Runtime"], 64),
        (["talk@1.0.0", "--alias", "a", "--licence", ""], 64),
        (["talk@1.0.0", "--alias", "a", "--bandwidth", "fast"], 64),
    ],
    "rollout apply": [
        ([], 64),
        (["nobody", "--yes"], 1),
        (["../p", "--yes"], 64),
        (["p-1"], 64),
        (["p-1", "--yes", "--at", "tomorrow"], 64),
    ],
    "rollout plans": [(["nothing"], 1), (["../p"], 64), (["a", "b"], 64)],
    "rollout start": [
        ([], 64),
        (["nothing", "--yes"], 1),
        (["../r", "--yes"], 64),
        (["r-1"], 64),  # nobody to ask
        (["r-1", "--alias", "a", "--yes"], 64),
        (["talk@1.0.0", "--yes"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--revision", "1"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--groups", "some"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--strategy", "{text}"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--strategy", "/no/such.yaml"], 1),
        (["talk@1.0.0", "--alias", "a"], 64),  # nobody to ask
        (["talk@9.9.9", "--alias", "a", "--yes"], 1),
        (["talk@1.0.0", "--alias", "Not An Alias", "--yes"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--at", "next week"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--at", "2026-13-40 25:61"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--at", "2026-12-01"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--at", "2020-01-01 00:00"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--at", "9999-12-31T23:59:59-23:59"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--max-in-progress", "-1"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--timeout", "0"], 64),
        (["talk@1.0.0", "--alias", "a", "--yes", "--device", "nobody"], 1),
        (["talk@1.0.0", "--alias", "a", "--yes", "--max-memory", "-1GiB"], 64),
    ],
    "rollout watch": [([], 64), (["nothing"], 1), (["a b"], 64), (["r-1", "--timeout", "0"], 64)],
    "rollout list": [(["extra"], 64)],
    "rollout show": [([], 64), (["nothing"], 1), (["../tokens"], 64)],
    "rollout pause": [([], 64), (["nothing"], 1), (["a?b"], 64)],
    "rollout resume": [([], 64), (["nothing"], 1)],
    "rollout stop": [([], 64), (["r-1"], 64), (["nothing", "--yes"], 1)],
    "rollout promote": [
        ([], 64),
        (["nothing"], 1),
        (["r-1", "--group", "-1"], 64),
        (["r-1", "--group", "0", "--revision", "x"], 64),
    ],
    "rollout retry-failed": [([], 64), (["nothing"], 1), (["r-1", "--revision", "-1"], 64)],
    "rollout roll-back": [([], 64), (["r-1"], 64), (["nothing", "--yes"], 1)],
    "rollout edit": [
        ([], 64),
        (["r-1"], 64),  # nothing to change
        (["r-1", "--max-in-progress", "-1"], 64),
        (["r-1", "--timeout", "0"], 64),
        (["nothing", "--name", "x"], 1),
        (["nothing", "--retries", "1"], 1),
        (["r-1", "--groups", "some"], 64),
        (["r-1", "--soak", "5m"], 64),
        (["r-1", "--at", "tomorrow"], 64),
        (["r-1", "--strategy", "/no/such.yaml"], 1),
    ],
    "rollout approval": [([], 64), (["nothing"], 1), (["a/b"], 64)],
    "rollout approve": [
        ([], 64),
        (["a/b"], 64),
        (["nothing", "--yes"], 1),
        (["r-1", "--yes", "--key", "/no/such.pem"], 1),
        (["r-1", "--yes", "--key", "{text}"], 1),
        (["r-1", "--yes", "--key", "{open_key}"], 1),
    ],
    "rollout deny": [([], 64), (["nothing"], 1)],
    "rollout override-approval": [
        ([], 64),
        (["r-1", "--yes"], 64),
        (["nothing", "--reason", "a b c", "--yes"], 1),
        (["r-1", "--reason", "a b c"], 64),
    ],
    "rollout review-override": [
        ([], 64),
        (["r-1"], 64),
        (["r-1", "--verdict", "fine"], 64),
        (["nothing", "--verdict", "accepted"], 1),
    ],
    "rollout recurring add": [
        ([], 64),
        (["talk", "--channel", "stable", "--alias", "a"], 64),
        ([*RECURRING, "--every", "0 2 * * *;UTC;4h"], 64),
        ([*RECURRING, "--every", "0 2 * * *;"], 64),
        (["Not A Model", *RECURRING[1:], "--every", "0 2 * * *"], 64),
        ([*RECURRING, "--every", "0 2 * * *", "--channel", "A B"], 64),
        ([*RECURRING, "--every", "0 2 * * *", "--device", "No Body"], 64),
        ([*RECURRING, "--every", "0 2 * * *", "--kv-type", "q2"], 64),
    ],
    "rollout recurring list": [(["extra"], 64)],
    "rollout recurring show": [([], 64), (["nothing"], 1), (["../x"], 64)],
    "rollout recurring edit": [
        ([], 64),
        (["id-1"], 64),  # nothing to change
        (["nothing", "--name", "x"], 1),
        (["nothing", "--retries", "1"], 1),
        (["../x", "--name", "x"], 64),
        (["id-1", "--every", ";UTC"], 64),
        (["id-1", "--soak", "5m"], 64),
        (["id-1", "--channel", "Not A Channel"], 64),
        (["id-1", "--where", "lyon"], 64),
        (["id-1", "--device", "Not A Device"], 64),
        (["id-1", "--slots", "65"], 64),
    ],
    "rollout recurring pause": [([], 64), (["nothing"], 1)],
    "rollout recurring resume": [([], 64), (["nothing"], 1), (["a?b"], 64)],
    "rollout recurring remove": [([], 64), (["nothing"], 1), (["a/b"], 64)],
    "bundle export": [
        ([], 64),
        (["--out", "{new}"], 64),
        (["--out", "{new}", "--device", "No Body"], 64),
        (["--out", "{new}", "--device", "gw-1", "--statement", "{text}"], 64),
        (["--out", "{new}", "--device", "nobody"], 1),
        (["--out", "{new}", "--statement", "/no/such/file"], 1),
        (["--out", "/no/such/folder/x", "--device", "gw-1"], 1),
    ],
    "bundle state": [
        ([], 64),
        ([*STATE, "--group", "A Group"], 64),
        ([*STATE, "--group", "lyon", "--days", "91"], 64),
        ([*STATE, "--group", "lyon", "--variant", "q9"], 1),
        ([*STATE, "--group", "lyon", "--approval", "/no/such/file"], 1),
    ],
    "bundle sign": [
        ([], 64),
        (["{text}", "--key", "{key}"], 6),
        (["/no/such/file", "--key", "{key}"], 1),
        (["{text}", "--key", "/no/such.pem"], 1),
    ],
    "why": [([], 64), (["nobody"], 1), (["No Body"], 64), (["gw-1", "--alias", "A B"], 64)],
    "plan": [(["/no/such.yaml"], 1), (["{text}"], 64), (["{binary}"], 64)],
    "apply": [(["/no/such.yaml"], 1), (["{text}"], 64), (["{binary}", "--yes"], 64)],
    "audit list": [
        (["--device", "nobody"], 1),
        (["--device", "No Body"], 64),
        (["--limit", "0"], 64),
        (["--after", "-1"], 64),
    ],
    "report": [
        ([], 64),
        (["iso-27001"], 64),
        (["iso-9001", "--out", "{new}"], 64),
        (["iso-27001", "--out", "{folder}"], 5),
        (["iso-27001", "--out", "/no/such/folder/report"], 1),
        (["iso-27001", "--out", "{new}", "--since", "yesterday"], 64),
        (["iso-27001", "--out", "{new}", "--device", "nobody"], 1),
        (["iso-27001", "--out", "{new}", "--filter", "memory > 1"], 64),
    ],
    "audit verify": [
        (["--device", "nobody"], 1),
        (["--device", "a/b"], 64),
        (["/no/such/file"], 64),
        (["/no/such/file", "--key", "x"], 64),
        (["/no/such/file", "--key", AuditLog().vkey], 64),
    ],
    "audit key": [(["x"], 64)],
    "audit export": [
        ([], 64),
        (["/no/such/folder/file"], 1),
        (["{new}", "--device-log", "nobody"], 1),
        (["{new}", "--device-log", "A B"], 64),
        (["{new}", "--device-log", "gw-1", "--tag", "a:b:c"], 64),
    ],
    "audit prove": [
        ([], 64),
        (["0"], 64),
        (["x"], 64),
        (["1", "--from", "1"], 64),
        (["--to", "5"], 64),
        (["99"], 1),
        (["--from", "5", "--out", "/no/such/folder/file"], 1),
    ],
    "audit retention list": [(["x"], 64)],
    "audit retention set": [
        ([], 64),
        (["--days", "0"], 64),
        (["--days", "soon"], 64),
        (["--days", "99999999999999999999"], 64),
        (["--days", "30"], 64),
    ],
    "audit retention clear": [(["x"], 64)],
    "audit hold list": [(["x"], 64)],
    "audit hold add": [
        ([], 64),
        (["--reason", "x"], 64),
        (["--reason", "x", "--device", "A B"], 64),
    ],
    "audit hold release": [
        ([], 64),
        (["id-1"], 64),
        (["../x", "--reason", "x"], 64),
        (["nothing", "--reason", "x"], 1),
    ],
    "audit witness": [
        ([], 64),
        (["--state", "/no/such/file"], 64),
        (["--state", "{binary}"], 1),
        (["--state", "/no/such/file", "--name", "a b", "--log", AuditLog().vkey], 64),
        (["--state", "/no/such/file", "--name", "a", "--log", "x"], 64),
        (
            ["--state", "{new}", "--name", "w", "--log", AuditLog().vkey, "--accept-restore"],
            6,
        ),
    ],
}
# A call of each verb that is right, for those that need more than their name.
GOOD: dict[str, list[str]] = {
    "login": ["https://controller.test:7770"],
    "users create": ["bob", "--role", "operator", "--scope", "site = lyon"],
    "users disable": ["id-1"],
    "users set-password": ["id-1", "--password-file", "{text}"],
    "sessions revoke": ["id-1"],
    "logout": [],
    "users enable": ["id-1"],
    "roles create": ["night", "--allow", "fleet:read"],
    "roles change": ["id-1", "--allow", "fleet:read"],
    "roles remove": ["id-1"],
    "bindings list": ["--of", "user:bob"],
    "bindings grant": ["bob", "viewer"],
    "bindings revoke": ["id-1"],
    "tokens create": ["ci", "--role", "viewer"],
    "tokens revoke": ["id-1"],
    "enrolment create": ["gw-2"],
    "enrolment revoke": ["id-1"],
    "report": ["iso-27001", "--out", "{new}"],
    "audit export": ["{new}"],
    "audit retention clear": ["--tag", "api:request:denied"],
    "audit retention set": ["--days", "365", "--tag", "api:request:denied"],
    "audit hold add": ["--device", "gw-1", "--reason", "case 4711"],
    "audit hold release": ["id-1", "--reason", "case 4711 is closed"],
    "audit prove": ["--from", "5", "--out", "{new}"],
    "audit witness": ["--state", "{new}", "--name", "w", "--log", AuditLog().vkey],
    "devices show": ["gw-1"],
    "devices label": ["gw-1", "a=b"],
    "devices remove": ["gw-1", "--yes"],
    "devices release-quarantine": ["gw-1", "--yes"],
    "keys generate": ["--out", "{new}"],
    "publishers add": ["someone", "{pub}", "--keys", "{offline}"],
    "models push": [*PUSH, "--variants", "f16"],
    "models show": ["talk"],
    "models retire": ["talk@1.0.0", "--key", "{key}"],
    "channels list": ["talk"],
    "channels put": ["talk@1.0.0", "stable"],
    "channels remove": ["talk@1.0.0", "beta"],
    "trust fetch": ["{new}"],
    "trust ceremony": ["{ceremony}", "--renew", "image"],
    "trust sign": ["{ceremony}", "--key", "{offline_key}"],
    "trust lint": ["{ceremony}"],
    "trust publish": ["{ceremony}"],
    "trust certify-issuer": [*ISSUER, "--out", "{new}"],
    "trust policy set": ["{policy}", "--keys", "{offline}"],
    "fit": ["talk", "--device", "gw-1"],
    "matrix": [],
    "rollout plan": ["talk@1.0.0", "--alias", "a"],
    "rollout plans": ["p-1"],
    "rollout start": ["talk@1.0.0", "--alias", "a", "--yes"],
    "rollout watch": ["r-1"],
    "rollout show": ["r-1"],
    "rollout pause": ["r-1"],
    "rollout resume": ["r-1"],
    "rollout stop": ["r-1", "--yes"],
    "rollout promote": ["r-1", "--group", "0"],
    "rollout retry-failed": ["r-1"],
    "rollout roll-back": ["r-1", "--yes"],
    "rollout edit": ["r-1", "--max-in-progress", "5"],
    "rollout approval": ["r-1"],
    "rollout approve": ["r-1", "--yes"],
    "rollout apply": ["p-1", "--yes"],
    "rollout deny": ["r-1"],
    "rollout override-approval": ["r-1", "--reason", "the model leaks secrets", "--yes"],
    "rollout review-override": ["r-1", "--verdict", "rejected", "--note", "it could wait"],
    "why": ["gw-1"],
    "plan": ["{fleet}"],
    "apply": ["{fleet}", "--yes"],
    "rollout recurring add": [*RECURRING, "--every", "0 2 * * 2#1;Europe/Berlin"],
    "rollout recurring show": ["id-1"],
    "rollout recurring edit": ["id-1", "--every", "0 3 * * *"],
    "rollout recurring pause": ["id-1"],
    "rollout recurring resume": ["id-1"],
    "rollout recurring remove": ["id-1"],
    "bundle export": ["--device", "gw-1", "--out", "{new}"],
    "bundle state": [*STATE, "--group", "lyon"],
    "bundle sign": ["{statement}", "--key", "{key}", "--yes"],
}
CHANGING = [
    *("users create", "users disable", "users enable", "users set-password"),
    *("logout", "sessions revoke"),
    *("roles create", "roles change", "roles remove"),
    *("bindings grant", "bindings revoke"),
    "tokens create",
    "tokens revoke",
    "enrolment create",
    "enrolment revoke",
    "devices label",
    "devices remove",
    "devices release-quarantine",
    "publishers add",
    "models push",
    "models retire",
    "trust policy set",
    "channels put",
    "channels remove",
    "rollout start",
    "rollout apply",
    "rollout pause",
    "rollout resume",
    "rollout stop",
    "rollout promote",
    "rollout retry-failed",
    "rollout roll-back",
    "rollout edit",
    "rollout approve",
    "rollout deny",
    "rollout override-approval",
    "rollout review-override",
    "rollout recurring add",
    "rollout recurring edit",
    "rollout recurring pause",
    "rollout recurring resume",
    "rollout recurring remove",
    "bundle export",
    *("audit retention set", "audit retention clear", "audit hold add", "audit hold release"),
]


def walk(commands: Mapping[str, Any], words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in commands.items():
        if hasattr(command, "commands"):
            yield from walk(command.commands, (*words, name))
        else:
            yield " ".join((*words, name))


REMOVALS = (
    *("roles remove", "bindings revoke", "sessions revoke", "logout", "users set-password"),
    *("tokens revoke", "enrolment revoke", "devices remove", "channels remove"),
    "rollout recurring remove",
    "audit retention clear",
)
# What needs no controller.
LOCAL = (
    "keys generate",
    "bundle sign",
    "trust ceremony",
    "trust certify-issuer",
    "trust sign",
    "trust lint",
)
VERBS = sorted({verb for part in PARTS.values() for verb in walk(commands_of(part))})


def filled(arguments: list[str], files: dict[str, Path]) -> list[str]:
    return [word.format(**files) for word in arguments]


def test_the_tables_here_know_every_verb() -> None:
    assert sorted(BAD) == VERBS


@pytest.mark.parametrize(
    ("verb", "arguments", "status"),
    [(verb, *case) for verb, cases in BAD.items() for case in cases],
    ids=str,
)
def test_bad_input_gets_one_sentence_and_its_status(
    sprat: Sprat, files: dict[str, Path], verb: str, arguments: list[str], status: int
) -> None:
    sprat(*verb.split(), *filled(arguments, files)).assert_one_sentence(status)
    assert not sprat.api.lists["rollouts"]


@pytest.mark.parametrize("words", [[], ["devices"], ["fly"], ["devices", "fly"], ["--fly"]])
def test_words_that_are_no_verb_are_wrong_usage(sprat: Sprat, words: list[str]) -> None:
    sprat(*words).assert_one_sentence(64)


@pytest.mark.parametrize("verb", VERBS)
def test_a_right_call_succeeds(sprat: Sprat, files: dict[str, Path], verb: str) -> None:
    seed(sprat.api)
    released(sprat.api, files["key"])
    said = sprat(*verb.split(), *filled(GOOD.get(verb, []), files), "-o", "json")
    assert said.status == 0, said


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(sprat: Sprat, verb: str) -> None:
    said = sprat(*verb.split(), "--help")
    assert said.status == 0
    assert f"Example: sprat {verb}" in " ".join(said.output.split())


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in LOCAL])
def test_a_controller_that_is_not_there_is_named(
    sprat: Sprat, files: dict[str, Path], verb: str
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)

    sprat.api.answer = refuse
    said = sprat(*verb.split(), *filled(GOOD.get(verb, []), files))
    assert said.status == 1
    assert "https://controller.test:7770 cannot be reached" in said.errors
    assert said.errors.splitlines()[-1].startswith("sprat: ")
    assert said.output == ""


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in LOCAL])
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>hello</html>"),
        httpx.Response(200, json=[[]]),
        httpx.Response(200, json="text"),
        httpx.Response(302, headers={"location": "https://elsewhere.test"}),
        httpx.Response(500, text="oops"),
        httpx.Response(400, json={"error": "a string"}),
    ],
    ids=["html", "list", "text", "redirect", "failure", "other error"],
)
def test_another_server_is_told_apart(
    sprat: Sprat, files: dict[str, Path], verb: str, answer: httpx.Response
) -> None:
    sprat.api.answer = lambda _: answer
    said = sprat(*verb.split(), *filled(GOOD.get(verb, []), files))
    if said.status == 0:  # a removal needs no more than a success
        assert answer.status_code == 200
        assert verb in REMOVALS
    else:
        last = said.errors.splitlines()[-1]
        assert last.startswith("sprat: ")
        assert "this is a bug" not in last


@pytest.mark.parametrize("verb", CHANGING)
def test_what_is_not_allowed_ends_with_4(sprat: Sprat, files: dict[str, Path], verb: str) -> None:
    seed(sprat.api)
    released(sprat.api, files["key"])
    sprat.environ["SPRAT_TOKEN"] = VIEWER
    said = sprat(*verb.split(), *filled(GOOD[verb], files))
    assert said.status == 4
    assert "a viewer may not do this" in said.errors.splitlines()[-1]
    assert "req-1" in said.errors


def released(api: OperatorApi, key: Path) -> None:
    """Have talk@1.0.0 released by the publisher of the key."""
    target = TargetFile(1, {"sha256": "4" * 64}, "any")
    path = manifest_path("me", "talk", "1.0.0", "q4_0")
    role = Targets(version=1, expires=NOW, targets={path: target})
    signer = tuf_signer(open_key(Place(f"file:{key.name}", key.parent, None)))
    api.trust["image"] |= targets_file("pub-me", role, [signer])


def seed(api: OperatorApi) -> None:
    """Make the things that right calls speak of."""
    for kind in (
        *("users", "bindings", "tokens", "sessions"),
        *("enrolment-tokens", "recurring-rollouts"),
    ):
        api.lists[kind].append({"id": "id-1"})
    api.lists["roles"].append({"id": "id-1", "permissions": ["fleet:read"]})
    api.lists["rollouts"].append({"id": "r-1", "state": "RUNNING"})
    api.channels["talk", "beta"] = ["1.0.0"]
    frozen.freeze(api, "r-1")
