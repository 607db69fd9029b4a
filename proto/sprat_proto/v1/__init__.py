"""Version 1 of the wire contract; the code beside link.proto is generated from it."""
