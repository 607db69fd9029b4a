"""The agent's trust code behind the command line of theupdateframework/tuf-conformance.

Rows, floors, the time rule and ngclient's hardening are the agent's own; what is added is what the
suite looks at: metadata as files, and a target's download, with the agent's partial files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import httpx
from sprat_agent.clock import system_clock
from sprat_agent.registry import metadata
from sprat_agent.registry.blocking import Stop
from sprat_agent.registry.named import Named
from sprat_agent.registry.partial import Blob, PartialFile
from sprat_agent.registry.refresh import refreshed
from sprat_agent.registry.source import HttpSource, SourceError
from sprat_agent.registry.tuf_client import Anchor, Look, MetadataRefusedError
from sprat_agent.state import State
from sprat_agent.sync.ports import ExecutionError

_STATE = ".sprat"


def now(_keys: str) -> datetime:
    """The suite moves the system clock; there is no director whose floor would hold it."""
    return system_clock()


def run(arguments: argparse.Namespace) -> None:
    """Refresh, and download what is asked for."""
    folder: Path = arguments.metadata_dir
    state = State(folder / _STATE)
    pinned = (folder / _STATE / "pinned.json").read_bytes()
    anchor = Anchor("image", pinned, folder / _STATE / "scratch")
    with httpx.Client(trust_env=False, timeout=10) as client:
        source = HttpSource(client, [arguments.metadata_url])
        try:
            with refreshed(state, anchor, source, now) as seen:
                for path in arguments.target_name or ():
                    download(client, seen, path, arguments, is_consistent(seen, pinned))
        finally:
            write_out(state, folder, pinned)
            state.close()


def download(
    client: httpx.Client,
    seen: Look,
    path: str,
    arguments: argparse.Namespace,
    prefixed: bool,  # noqa: FBT001 - TUF's consistent_snapshot
) -> None:
    """Fetch one target into its place; what is there already is not fetched again."""
    named = seen.named(path)
    if named is None:
        raise SourceError(f"{path} is not named")
    final: Path = arguments.target_dir / quote(path, "")
    partial = arguments.target_dir.parent / f"{quote(path, '')}.part"
    if final.exists() and hashes_of(final.read_bytes(), named) == named.hashes:
        return
    folder, slash, name = path.rpartition("/")
    prefix = f"{named.hashes[0][1]}." if prefixed else ""
    url = f"{arguments.target_base_url.rstrip('/')}/{folder}{slash}{prefix}{name}"
    (fetch if named.sha256 else fetch_by_other_hash)(client, url, named, partial)
    partial.replace(final)


def is_consistent(seen: Look, pinned: bytes) -> bool:
    """Tell whether names of targets begin with a hash."""
    roots = [row.data for row in metadata.only_roots(seen.verified().rows)]
    root = roots[-1] if roots else pinned
    return bool(json.loads(root)["signed"]["consistent_snapshot"])


def fetch(client: httpx.Client, url: str, named: Named, partial: Path) -> None:
    blob = Blob(named.path, named.sha256, named.length, max(named.length, 1), [named.sha256])
    file = PartialFile(blob, partial, Stop())
    try:
        if not file.is_whole():
            wanted = {"range": f"bytes={file.offset}-"} if file.offset else {}
            with client.stream("GET", url, headers=wanted) as response:
                response.raise_for_status()
                for chunk in response.iter_bytes():
                    file.write(chunk)
        file.check_whole()
    finally:
        file.close()


def fetch_by_other_hash(client: httpx.Client, url: str, named: Named, partial: Path) -> None:
    """Fetch what the agent would refuse: it takes SHA-256 only, and the suite asks for others."""
    data = client.get(url).raise_for_status().content
    if hashes_of(data, named) != named.hashes:
        raise SourceError(f"{named.path} is not what was signed")
    partial.write_bytes(data)


def hashes_of(data: bytes, named: Named) -> tuple[tuple[str, str], ...]:
    return tuple((name, hashlib.new(name, data).hexdigest()) for name, _ in named.hashes)


def write_out(state: State, folder: Path, pinned: bytes) -> None:
    """Show the suite what is trusted, as files."""
    with state.reading() as connection:
        rows = metadata.read(connection, "image")
    newest = {row.role: row.data for row in sorted(rows, key=lambda row: row.version)}
    for role, data in ({"root": pinned} | newest).items():
        (folder / f"{quote(role, '')}.json").write_bytes(data)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    for name in ("--metadata-dir", "--target-dir"):
        parser.add_argument(name, type=Path)
    for name in ("--metadata-url", "--target-base-url"):
        parser.add_argument(name)
    parser.add_argument("--target-name", action="append")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("root", type=Path)
    verbs.add_parser("refresh")
    verbs.add_parser("download")
    found = parser.parse_args(arguments)
    if found.verb == "init":
        (found.metadata_dir / _STATE).mkdir()
        shutil.copyfile(found.root, found.metadata_dir / _STATE / "pinned.json")
        shutil.copyfile(found.root, found.metadata_dir / "root.json")
        return 0
    try:
        run(found)
    except (MetadataRefusedError, SourceError, ExecutionError, httpx.HTTPError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
