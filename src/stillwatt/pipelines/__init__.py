"""Room: the measured work. The only room that may import a training stack."""
