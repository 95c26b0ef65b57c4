"""Exports: pure functions from a life-cycle report's JSON to other formats, each with the list of what it lost."""
