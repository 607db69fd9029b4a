"""The signer: a process of its own, with every online key and three verbs; and speaking to it."""
