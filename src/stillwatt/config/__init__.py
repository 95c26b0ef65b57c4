"""Room: settings that people write, strict and resolved."""
