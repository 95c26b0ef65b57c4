"""Room: records to findings; pure."""
