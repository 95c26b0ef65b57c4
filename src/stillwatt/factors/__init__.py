"""Room 4a: numbers from the world. Which there are, whether they can be true, and which one applies."""
