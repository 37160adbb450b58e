"""Stories of real QEMUs, one function each; importing this registers them all in stage.STORIES."""

from stories import clients, hotplug, jobs, lifecycle, migration, stops, unplug

__all__ = ["clients", "hotplug", "jobs", "lifecycle", "migration", "stops", "unplug"]
