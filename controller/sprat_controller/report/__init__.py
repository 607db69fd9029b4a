"""Reports from the audit logs for those who ask for evidence, with the proof attached."""
