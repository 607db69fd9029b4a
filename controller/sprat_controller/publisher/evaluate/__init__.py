"""How good a variant is, and how fast on this machine, beside the model it was made from."""
