"""Sprat's controller: publishes signed models and rolls them out to a fleet of devices."""

__version__ = "0.1.0"
