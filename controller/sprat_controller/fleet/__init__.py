"""The devices: who they are, what they are, how they are filtered."""
