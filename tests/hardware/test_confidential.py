"""Objects of confidential guests are rendered as QEMU's own documentation has them."""

import json

from qemustate.hardware import confidential, memory
from qemustate.hardware.config import Config


def test_each_kind_names_its_object_to_the_machine():
    """The object and the machine that has it go together, and nothing else changes."""
    known = {"cbitpos": 51, "reduced_phys_bits": 1}
    guests = {
        "tdx-guest": confidential.tdx(),
        "sev-guest": confidential.sev(**known),
        "sev-snp-guest": confidential.sev_snp(**known),
        "s390-pv-guest": confidential.s390_pv(),
        "rme-guest": confidential.rme(**{"measurement-algorithm": "sha512"}),
    }
    for kind, parts in guests.items():
        config = Config("qemu", {"machine": "q35"}).add(*parts)
        [part] = config.parts()
        assert part.kind == kind
        assert config.options["machine"] == {"type": "q35", "confidential-guest-support": part.id}


def test_a_quote_socket_is_a_map():
    """TDX's socket for quotes is nested, which only JSON can say."""
    address = {"type": "vsock", "cid": "2", "port": "4050"}
    argv = (
        Config("qemu").add(*confidential.tdx(mrowner="AA==", **{"quote-generation-socket": address})).argv()
    )

    assert json.loads(argv[argv.index("-object") + 1]) == {
        "qom-type": "tdx-guest", "id": "tdx0", "mrowner": "AA==", "quote-generation-socket": address,
    }  # fmt: skip


def test_protected_execution_has_its_tpm():
    """PEF brings the proxy of the host's TPM."""
    config = Config("qemu").add(*confidential.pef(host_path="/dev/tpm0"))

    assert [part.kind for part in config.parts()] == ["pef-guest", "spapr-tpm-proxy"]
    assert config.parts()[1]["host-path"] == "/dev/tpm0"


def test_enclave_memory_belongs_to_the_machine():
    """SGX memory is a backend and an item of the machine's list."""
    assert Config("qemu").add({"machine": "q35"}, *memory.epc("epc0", 1 << 20)).argv()[1:] == [
        "-machine", "q35,sgx-epc.0.memdev=epc0",
        "-object", '{"qom-type":"memory-backend-epc","id":"epc0","size":1048576}',
    ]  # fmt: skip
