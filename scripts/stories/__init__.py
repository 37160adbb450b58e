"""Stories of real QEMUs, one function each; importing this registers them all in stage.STORIES."""

from stories import (
    backends,
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
    switch,
    unplug,
    vhost,
)

__all__ = [
    "backends",
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
    "switch",
    "unplug",
    "vhost",
]
