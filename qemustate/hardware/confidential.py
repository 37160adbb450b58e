"""Guests whose memory the host cannot read: the object that asks for it, and the machine that has it.

Each function returns the object and ``{"machine": {"confidential-guest-support": ID}}``. No emulated machine can run
them; what QEMU knows of an object's properties it says itself (``qom-list-properties``), which the checks use.

Source: QEMU ``qapi/qom.json``: SevGuestProperties, SevSnpGuestProperties, TdxGuestProperties; ``target/s390x/kvm/pv.c``,
``hw/ppc/pef.c``. RME of the Arm CCA is in no release of QEMU yet: its properties are those of the proposed patches.
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.properties import Device, Object

Guest = tuple[Object, dict[str, Any]]


def _guest(kind: str, name: str, properties: dict[str, Any]) -> Guest:
    return Object({"qom-type": kind, "id": name, **properties}), {
        "machine": {"confidential-guest-support": name}
    }


def tdx(id: str = "tdx0", **properties: Any) -> Guest:
    """Return Intel TDX: ``mrconfigid``, ``mrowner``, ``quote-generation-socket`` (a map); since QEMU 10.1."""
    return _guest("tdx-guest", id, properties)


def sev(id: str = "sev0", *, cbitpos: int, reduced_phys_bits: int, **properties: Any) -> Guest:
    """Return AMD SEV: ``policy`` is 1, or 5 for SEV-ES; ``kernel-hashes``, ``dh-cert-file``, ``session-file``."""
    known = {"cbitpos": cbitpos, "reduced-phys-bits": reduced_phys_bits}
    return _guest("sev-guest", id, {**known, **properties})


def sev_snp(id: str = "snp0", *, cbitpos: int, reduced_phys_bits: int, **properties: Any) -> Guest:
    """Return AMD SEV-SNP: ``policy``, ``host-data``, ``id-block``, ``kernel-hashes``; since QEMU 9.1."""
    known = {"cbitpos": cbitpos, "reduced-phys-bits": reduced_phys_bits}
    return _guest("sev-snp-guest", id, {**known, **properties})


def s390_pv(id: str = "pv0") -> Guest:
    """Return IBM Secure Execution."""
    return _guest("s390-pv-guest", id, {})


def pef(id: str = "pef0", *, host_path: str = "/dev/tpmrm0") -> tuple[Object, Device, dict[str, Any]]:
    """Return IBM's Protected Execution Facility, with the TPM of the host that it needs."""
    guest, machine = _guest("pef-guest", id, {})
    return guest, Device({"driver": "spapr-tpm-proxy", "id": f"{id}-tpm", "host-path": host_path}), machine


def rme(id: str = "rme0", **properties: Any) -> Guest:
    """Return a realm of the Arm Confidential Compute Architecture: ``measurement-algorithm``, ``personalization-value``."""
    return _guest("rme-guest", id, properties)
