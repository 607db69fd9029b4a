"""Making bundles: one file with what devices without a network need."""
