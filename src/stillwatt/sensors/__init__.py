"""Room: read instruments; each driver by itself."""
