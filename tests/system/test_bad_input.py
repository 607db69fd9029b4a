"""Bad input to the real commands: one clear sentence, a non-zero exit, never a traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from processes import BIN
from simulators.fleet import Fleet

BAD = [
    ("enrolment", "create", "Not A Name"),
    ("enrolment", "create", "dev", "--ttl", "soon"),
    ("enrolment", "create", "dev", "--label", "nokey"),
    ("enrolment", "revoke", "nothing"),
    ("devices", "show", "nobody"),
    ("devices", "label", "nobody", "a=b"),
    ("devices", "remove", "nobody", "--yes"),
    ("devices", "list", "--where", "site"),
    ("enrolment", "create", "--batch", "kiosk"),
    ("enrolment", "create", "--batch", "kiosk", "--count", "0"),
    ("enrolment", "create", "dev", "--hardware", "toaster"),
    ("devices", "release-quarantine", "nobody"),
    ("publishers", "add", "someone", "/no/such/file.pub"),
    ("publishers", "add", "someone", "/no/such/file.pub", "--keys", "/no/such/folder"),
    ("trust", "fetch", "/proc/nothing"),
    ("trust", "lint", "/no/such/folder"),
    ("trust", "ceremony", "/no/such/folder", "--renew", "image"),
    ("trust", "sign", "/no/such/folder", "--key", "/no/such.pem"),
    ("trust", "publish", "/no/such/folder"),
    ("trust", "policy", "set", "/no/such/approvers.json", "--keys", "/no/such/folder"),
    ("models", "retire", "talk@9.9.9", "--key", "/no/such.pem"),
    ("rollout", "approve", "nothing", "--yes"),
    ("rollout", "deny", "nothing", "--yes"),
    ("bundle", "export", "--device", "nobody", "--out", "/no/such/folder/b.sprat"),
    ("tokens", "create", "someone", "--role", "emperor"),
    ("tokens", "revoke", "nothing"),
    ("models", "show", "nothing"),
    ("models", "show", "talk@9.9.9"),
    ("models", "push", "/no/such/file.gguf", "--name", "m", "--release", "1.0.0", "--key", "k"),
    ("models", "push"),
    ("models", "push", "--pipeline", "/no/such/pipeline.yaml"),
    ("models", "push", "--pipeline", "/proc/version"),
    ("models", "push", "/proc", "--name", "m", "--release", "1.0.0", "--dry-run"),
    ("rollout", "plan", "talk"),
    ("rollout", "plan", "talk@9.9.9", "--alias", "assistant"),
    ("rollout", "plan", "talk@1.0.0", "--alias", "assistant", "--aim", "fastest"),
    ("rollout", "plan", "talk@1.0.0", "--alias", "assistant", "--min-decode-tps", "fast"),
    ("rollout", "plan", "talk@1.0.0", "--alias", "assistant", "--max-memory", "much"),
    ("rollout", "plan", "talk@1.0.0", "--alias", "assistant", "--max-quality-loss", "little"),
    ("rollout", "plan", "talk@1.0.0", "--alias", "assistant", "--min-context", "4096"),
    ("rollout", "start", "talk@1.0.0", "--alias", "Not An Alias", "--yes"),
    ("rollout", "start", "talk@1.0.0", "--alias", "assistant", "--at", "next week", "--yes"),
    ("rollout", "start", "talk@1.0.0", "--alias", "assistant", "--device", "nobody", "--yes"),
    ("rollout", "watch", "nothing"),
    ("rollout", "show", "nothing"),
    ("rollout", "pause", "nothing"),
    ("rollout", "resume", "nothing"),
    ("rollout", "stop", "nothing", "--yes"),
    ("audit", "list", "--device", "nobody"),
    ("audit", "verify", "--device", "nobody"),
    ("no-such-verb",),
    ("devices", "list", "--no-such-option"),
    ("devices", "list", "-o", "papyrus"),
]


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_input_gets_one_sentence(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    answer = fleet.controller.sprat(*arguments, check=False)
    assert answer.status != 0
    assert answer.output == ""
    assert_one_sentence(answer.errors)


def assert_one_sentence(errors: str) -> None:
    assert errors.startswith("sprat"), errors
    assert len(errors.strip().splitlines()) == 1, errors
    assert "Traceback" not in errors


def test_a_controller_that_is_not_there_is_named(fleet: Fleet) -> None:
    answer = fleet.controller.sprat("devices", "list", "--url", "https://127.0.0.1:1", check=False)
    assert answer.status == 1
    assert "127.0.0.1:1" in answer.errors
    assert_one_sentence(answer.errors)


def test_a_wrong_token_is_not_authenticated(fleet: Fleet) -> None:
    answer = fleet.controller.sprat("devices", "list", "--token", "sprat_wrong", check=False)
    assert answer.status == 4
    assert_one_sentence(answer.errors)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--state", "{state}"),
        ("status", "--state", "{state}"),
        ("enrol", "--controller", "https://127.0.0.1:1", "--token", "x", "--state", "{state}"),
        (
            *("enrol", "--controller", "https://127.0.0.1:1"),
            *("--token", f"sprat1.{'a' * 43}.{'0' * 64}", "--state", "{state}"),
        ),
        ("enrol", "--claim", "/no/such/claim.json", "--state", "{state}"),
        ("bundle", "import", "/no/such/bundle.sprat", "--state", "{state}"),
        ("run", "--state", "{state}", "--listen", "everywhere"),
        ("no-such-verb",),
    ],
    ids=lambda arguments: " ".join(arguments[:1]),
)
def test_the_agent_answers_bad_input_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    state = str(tmp_path / "state")
    done = subprocess.run(
        [BIN / "sprat-agent", *(word.replace("{state}", state) for word in arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sprat-agent"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_claim_token_is_good_for_one_device_only(fleet: Fleet, tmp_path: Path) -> None:
    token = fleet.sprat("enrolment", "create", "once", "-o", "json")["token"]
    command = [
        *(BIN / "sprat-agent", "enrol", "--controller", fleet.controller.url, "--token", token),
        "--state",
    ]
    first = subprocess.run([*command, tmp_path / "a"], check=False, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    second = subprocess.run([*command, tmp_path / "b"], check=False, capture_output=True, text=True)
    assert second.returncode != 0
    assert "used" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    keys = [path for path in files if b"PRIVATE KEY" in path.read_bytes()]
    assert len(keys) == 3  # the identity's, the TLS key, and the audit log's
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in keys)


def test_the_controller_says_what_it_needs_before_it_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "sprat-controller", "run", "--data", tmp_path / "nothing"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "sprat-controller init" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
