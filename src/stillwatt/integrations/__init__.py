"""Hooks into other people's loops, clients and dashboards; each module needs one library, and says so if it is absent.

A hook takes the run that it measures in as an argument, counts what it can know, says what it cannot, and lets no error
of its own into the loop that it hooks into.
"""
