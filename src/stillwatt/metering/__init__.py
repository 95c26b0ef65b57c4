"""Room: readings to energy per stage window. Pure functions, and the meter's in-process half."""
