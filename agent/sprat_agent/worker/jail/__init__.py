"""What a worker gives up before it opens a model."""
