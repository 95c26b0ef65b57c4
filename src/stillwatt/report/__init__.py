"""Room: findings to documents; pure."""
