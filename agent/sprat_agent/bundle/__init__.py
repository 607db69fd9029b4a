"""Taking in what a stick carries instead of the network, verified by the same code."""
