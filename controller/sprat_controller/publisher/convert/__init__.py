"""From a Hugging Face model folder (safetensors) to a GGUF, with numpy and the `gguf` package."""
