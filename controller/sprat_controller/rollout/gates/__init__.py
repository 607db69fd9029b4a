"""Gates: whether what a group brought is as good as what its devices ran before."""
