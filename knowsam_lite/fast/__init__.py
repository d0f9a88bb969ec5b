"""The same numbers within rounding, computed faster on a CPU. No taught code imports this."""
