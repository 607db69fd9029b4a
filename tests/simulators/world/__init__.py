"""A discrete-event world: up to a million virtual devices under the real planner and runner.

Time is virtual: milliseconds since the world began. All chance comes of one seed by counting
(`draws`), never by order, so that one printed line replays a run whatever its chunks were.
"""
