"""The simulated disk, which lives with the simulator."""

from quorate.sim.disk import SECTOR, OpenFile, PowerCut, SimDisk

__all__ = ["SECTOR", "OpenFile", "PowerCut", "SimDisk"]
