"""Signing in by OpenID Connect: somebody else knows who people are, and in which groups.

`configuration` says with whom, `provider` talks to them, `tokens` decides what they said, `mapping`
what it allows, and `sign_in`, `device` and `logout` are the three ways in which it happens.
"""
