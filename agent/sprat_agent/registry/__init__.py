"""The signed models on this device's disk: whom to trust, fetching, and files by digest."""
