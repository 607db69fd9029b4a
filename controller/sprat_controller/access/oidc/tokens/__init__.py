"""What a provider signs, and whether it is for us, now, by a key of theirs. All of it is pure."""
