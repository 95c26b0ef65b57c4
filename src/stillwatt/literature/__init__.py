"""Room 4b: what others have published. What their works cover, and one's own figure beside theirs."""
