"""Room 4b: what others have published. Which stages and metrics their works cover, and one's own figure beside theirs."""
