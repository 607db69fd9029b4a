"""The clock that wakes whoever reads the rows; the rows are the schedule."""
