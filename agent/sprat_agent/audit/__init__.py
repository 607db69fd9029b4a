"""The device's audit: what a record is, and the journal that keeps them until acknowledged."""
