"""What is published: signed manifests, blobs, and the making of them."""
