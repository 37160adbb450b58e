"""Memory: where it comes from on the host, and how the guest gets it. Sizes are bytes.

Source: QEMU ``qapi/qom.json`` (MemoryBackendProperties), ``hw/mem/``, ``hw/virtio/virtio-mem.c``.
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.platform import Machine, virtio
from qemustate.hardware.properties import Device, Object


def ram(id: str, size: int, **properties: Any) -> Object:
    """Return memory that nobody else sees; ``prealloc``, ``host-nodes`` with ``policy``, ``merge``, ``dump``."""
    return Object({"qom-type": "memory-backend-ram", "id": id, "size": size, **properties})


def memfd(id: str, size: int, *, share: bool = True, **properties: Any) -> Object:
    """Return memory of an anonymous file, which vhost-user processes can share; ``hugetlb``, ``hugetlbsize``, ``seal``."""
    return Object({"qom-type": "memory-backend-memfd", "id": id, "size": size, "share": share, **properties})


def file(id: str, size: int, path: str, *, share: bool = True, **properties: Any) -> Object:
    """Return memory of a file, or of a new file in a folder, as of hugetlbfs; ``pmem``, ``align``, ``readonly``."""
    return Object(
        {
            "qom-type": "memory-backend-file",
            "id": id,
            "size": size,
            "mem-path": path,
            "share": share,
            **properties,
        }
    )


def epc(id: str, size: int, **properties: Any) -> tuple[Object, dict[str, Any]]:
    """Return memory of an SGX enclave's page cache, and the machine that has it."""
    backend = Object({"qom-type": "memory-backend-epc", "id": id, "size": size, **properties})
    return backend, {"machine": {"sgx-epc": [{"memdev": id}]}}


def boot_memory(backend: Object) -> tuple[Object, dict[str, Any]]:
    """Return the memory that the VM starts with as a backend: ``-m`` and the machine's ``memory-backend``."""
    return backend, {"m": {"size": f"{backend['size']}B"}, "machine": {"memory-backend": backend.id}}


def dimm(id: str, backend: Object, **properties: Any) -> tuple[Object, Device]:
    """Return a module of memory that is plugged, a slot for each (``-m slots=,maxmem=``)."""
    return backend, Device(driver="pc-dimm", id=id, memdev=backend.id, **properties)


def nvdimm(id: str, backend: Object, *, unarmed: bool = False, **properties: Any) -> tuple[Object, Device]:
    """Return a module that keeps its contents; the machine needs ``nvdimm=on``. A read-only file makes it ``unarmed``."""
    more = {"unarmed": True} if unarmed else {}
    return backend, Device(driver="nvdimm", id=id, memdev=backend.id, **more, **properties)


def virtio_mem(
    id: str,
    backend: Object,
    *,
    requested: int = 0,
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Object, Device]:
    """Return memory that grows and shrinks up to the backend's size, as ``requested-size`` asks of the guest."""
    return backend, virtio(
        "virtio-mem", machine, id=id, memdev=backend.id, **{"requested-size": requested}, **properties
    )


def numa_node(nodeid: int, backend: Object, *, cpus: str = "") -> tuple[Object, dict[str, Any]]:
    """Return a node of memory with its processors, ``"0-3"``."""
    node = {"type": "node", "nodeid": nodeid, "memdev": backend.id, **({"cpus": cpus} if cpus else {})}
    return backend, {"numa": node}


def numa_distance(source: int, destination: int, value: int) -> dict[str, Any]:
    """Return how far two nodes are apart; 10 is the distance of a node to itself."""
    return {"numa": {"type": "dist", "src": source, "dst": destination, "val": value}}
