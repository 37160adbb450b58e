"""Stories of real QEMUs, one function each; importing this registers them all in stage.STORIES."""

from stories import blockjobs, clients, hotplug, jobs, jobtypes, lifecycle, migration, stops, unplug

__all__ = ["blockjobs", "clients", "hotplug", "jobs", "jobtypes", "lifecycle", "migration", "stops", "unplug"]
