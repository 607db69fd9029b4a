"""The routes, a file for each kind of thing. They convert and call; nothing is decided here."""
