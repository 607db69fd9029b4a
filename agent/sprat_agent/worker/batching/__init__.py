"""Which tokens go into the next step, for whom, and what is kept of a prompt."""
