"""Room: the command line; thin. Each command parses, calls one workflow, prints."""
