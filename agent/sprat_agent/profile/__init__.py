"""What this device's hardware is and can carry."""
