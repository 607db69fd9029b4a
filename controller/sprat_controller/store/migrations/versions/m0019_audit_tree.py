"""The controller's audit log becomes a Merkle tree, with checkpoints that can be kept elsewhere."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op
from sprat_proto.merkle import Frontier, leaf_hash

revision = "0019"
down_revision = "0018"

_INT64: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BATCH: Final = 1000
_TILE_LEVELS: Final = 8
_APPEND_ONLY: Final = {
    "audit_subtree": 'level = NEW.level AND "index" = NEW."index"',
    "audit_checkpoint": "size = NEW.size",
}


def upgrade() -> None:
    """Make the tree of what is in the log: each record's hash is its leaf's from now on."""
    op.create_table(
        "audit_head",
        sa.Column("id", _INT64, primary_key=True),
        sa.Column("size", _INT64, nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_subtree",
        sa.Column("level", _INT64, primary_key=True),
        sa.Column("index", _INT64, primary_key=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("size", _INT64, primary_key=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "audit_cosignature",
        sa.Column("size", _INT64, primary_key=True),
        sa.Column("witness", sa.String(), primary_key=True),
        sa.Column("line", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
    )
    _allow_updates()
    _grow()
    _refuse_updates()
    for table, same in _APPEND_ONLY.items():
        _append_only(table, same)


def _grow() -> None:
    connection, frontier = op.get_bind(), Frontier()
    page = sa.text("SELECT seq, body FROM audit_record WHERE seq > :after ORDER BY seq LIMIT :many")
    hash_it = sa.text("UPDATE audit_record SET hash = :hash WHERE seq = :seq")
    keep = sa.text(
        'INSERT INTO audit_subtree (level, "index", hash) VALUES (:level, :index, :hash)'
    )
    while rows := connection.execute(page, {"after": frontier.size, "many": _BATCH}).all():
        leaves = {row.seq: leaf_hash(bytes(row.body)) for row in rows}
        hashed = [{"seq": seq, "hash": leaf.hex()} for seq, leaf in leaves.items()]
        connection.execute(hash_it, hashed)
        for leaf in leaves.values():
            completed = frontier.append(leaf)
            for level in range(_TILE_LEVELS, len(completed), _TILE_LEVELS):
                where = {"level": level // _TILE_LEVELS, "index": (frontier.size >> level) - 1}
                connection.execute(keep, {**where, "hash": completed[level]})
    head = sa.text("INSERT INTO audit_head (id, size, frontier) VALUES (1, :size, :frontier)")
    connection.execute(head, {"size": frontier.size, "frontier": bytes(frontier)})


def _allow_updates() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_record_no_update")
    else:
        op.execute("ALTER TABLE audit_record DISABLE TRIGGER audit_record_no_update")


def _refuse_updates() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_record_no_update BEFORE UPDATE ON audit_record"
            " BEGIN SELECT RAISE(ABORT, 'audit_record is append-only'); END"
        )
    else:
        op.execute("ALTER TABLE audit_record ENABLE TRIGGER audit_record_no_update")


def _append_only(table: str, same: str) -> None:
    """Refuse UPDATE, DELETE, and what hides one: INSERT OR REPLACE, TRUNCATE."""
    if op.get_bind().dialect.name == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}"
            )
        exists = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - names from above
        op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} {exists} {refuse}")
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION '{table} is append-only'"
        " USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    for verb, each in (("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
            f" FOR EACH {each} EXECUTE FUNCTION {table}_refuse()"
        )
