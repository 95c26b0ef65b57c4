"""The coded logit cache: a few tens of bytes a token instead of hundreds (docs/reference/logit-cache.md)."""
