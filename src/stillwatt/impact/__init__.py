"""Room 4b: records times factors. What a run's joules mean for the world, and what is not counted."""
