"""Room: the use cases; the only place where rooms are joined."""
