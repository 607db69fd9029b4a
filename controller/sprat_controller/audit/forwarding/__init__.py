"""Sending the controller's audit log on, as it grows: to syslog receivers and OTLP collectors."""
