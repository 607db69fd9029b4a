"""What is published: signed metadata, blobs, and the checks before either is kept."""
