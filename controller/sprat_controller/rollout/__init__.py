"""Rollouts: pure tables and deciders, and the runner that makes one decision one transaction."""
