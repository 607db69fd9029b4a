"""Which model runs on which hardware class, in which variant, and why in no other."""
