"""Who may do what: tokens of people, credentials of devices, one permission table."""
