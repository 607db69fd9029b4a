"""The append-only audit log: tags with a grammar, and the log itself."""
