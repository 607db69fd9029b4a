"""Real interfaces in memory, for tests."""
