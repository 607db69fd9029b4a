"""The controller's end of the conversation with devices: two carriers, one meaning."""
