"""The paths and shapes of Ollama; what would change the models of this device is the fleet's."""
