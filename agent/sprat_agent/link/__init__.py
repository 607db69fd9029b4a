"""The device's end of the conversation with its controller: one contract, two carriers."""
