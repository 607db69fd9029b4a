"""Rows: tables, the visible transaction, queries and migrations."""
