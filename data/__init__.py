"""Constants and measurements with their sources; reference results."""
