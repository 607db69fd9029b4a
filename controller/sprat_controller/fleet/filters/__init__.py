"""Target filters: the language that says which devices are meant (`target_filter` is its door)."""
