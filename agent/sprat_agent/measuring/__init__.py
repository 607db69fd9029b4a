"""How fast this device is: a few seconds of small models made on the fly, when it is idle.

The agent's process decides when (`occasion`), starts a jailed child (`process`) and keeps what it
found (`kept`); `watch` joins them. Only the child (`child`, `costs`, `model_file`) loads llama.cpp.
"""
