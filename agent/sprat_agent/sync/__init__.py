"""Converging on the assignment: decide (plan, phases), then do (apply, loop)."""
