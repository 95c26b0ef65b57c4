"""Room 1: instruments. One driver a file; a driver reads, says exactly why it cannot, and never guesses."""

from stillwatt.sensors.base import Probe, SeesUsers, Sensor

__all__ = ["Probe", "SeesUsers", "Sensor"]
