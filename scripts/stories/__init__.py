"""Stories of real QEMUs, one function each; importing this registers them all in stage.STORIES."""

from stories import (
    blockjobs,
    clients,
    displays,
    failover,
    hotplug,
    jobs,
    jobtypes,
    kinds,
    lifecycle,
    migration,
    shpc,
    stops,
    unplug,
    vhost,
)

__all__ = [
    "blockjobs",
    "clients",
    "displays",
    "failover",
    "hotplug",
    "jobs",
    "jobtypes",
    "kinds",
    "lifecycle",
    "migration",
    "shpc",
    "stops",
    "unplug",
    "vhost",
]
