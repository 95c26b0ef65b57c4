"""Live grids: hourly intensities asked of public services, only where somebody names one. Offline is the default."""
