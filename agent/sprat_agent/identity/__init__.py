"""Who this device is: its key, its certificate, and whom it trusts."""
