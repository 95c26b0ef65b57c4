"""Room: the command line: parse, call one workflow, print."""
