"""Rollouts that are made again and again: of the newest release in a channel, at set times."""
