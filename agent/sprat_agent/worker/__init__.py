"""What runs inside an engine worker process: one model, and nothing that is worth stealing."""
