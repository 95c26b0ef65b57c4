"""Logs of other tools become ordinary run directories: what they say, what they cannot say, and nothing twice."""
