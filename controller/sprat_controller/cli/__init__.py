"""`sprat`, the operators' command: it talks only to the controller's HTTP API."""
