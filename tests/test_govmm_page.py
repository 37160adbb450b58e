"""docs/govmm.md is whole and true: every thing of govmm has a row, and every name in it leads somewhere."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import qemustate
from qemustate.errors import CommandRefused
from qemustate.hardware.capabilities import Capabilities
from qemustate.hardware.config import Config
from qemustate.hardware.options import NAMES
from qemustate.hardware.properties import Chardev, Fd
from qemustate.qmp.blocking import Client
from qemustate.vm.probe import probe

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "govmm.md").read_text()

#: What govmm had: its methods of QMP, the fields of its command line, its devices.
METHODS = """
    QMPStart QMPStartWithConn Shutdown ExecuteQMPCapabilities ExecuteStop ExecuteCont ExecuteSystemPowerdown ExecuteQuit
    ExecuteQueryStatus ExecQueryQmpSchema ExecQomSet ExecQomGet ExecuteBlockdevAdd ExecuteBlockdevAddWithCache
    ExecuteBlockdevAddWithDriverCache ExecuteDeviceAdd ExecuteDeviceAddWithDiscard ExecuteSCSIDeviceAdd ExecutePCIDeviceAdd
    ExecutePCIDeviceAddWithDiscard ExecuteBlockdevDel ExecuteDeviceDel ExecuteNetdevAdd ExecuteNetdevChardevAdd
    ExecuteNetdevAddByFds ExecuteNetdevDel ExecuteNetPCIDeviceAdd ExecuteNetCCWDeviceAdd ExecutePCIVhostUserDevAdd
    ExecuteVFIODeviceAdd ExecutePCIVFIODeviceAdd ExecutePCIVFIOMediatedDeviceAdd ExecuteAPVFIOMediatedDeviceAdd
    ExecuteQueryHotpluggableCPUs ExecuteCPUDeviceAdd ExecQueryCpus ExecQueryCpusFast ExecMemdevAdd ExecHotplugMemory
    ExecQueryMemoryDevices ExecuteNVDIMMDeviceAdd ExecuteBalloon ExecutePCIVSockAdd ExecuteGetFD ExecuteCharDevUnixSocketAdd
    ExecuteChardevDel ExecuteVirtSerialPortAdd ExecSetMigrationCaps ExecSetMigrateArguments ExecuteQueryMigration
    ExecuteMigrationIncoming ExecuteDumpGuestMemory
""".split()  # noqa: SIM905
FIELDS = """
    Name UUID Machine CPUModel QMPSockets Memory SMP RTC GlobalParam PFlash VGA Kernel Bios IOThreads Incoming PidFile LogFile FwCfg
    SeccompSandbox Uid Gid Groups Path Ctx NoUserConfig NoDefaults NoGraphic NoReboot NoShutdown Daemonize Mlock Stopped HugePages
    FileBackedMem MemShared MemPrealloc IOMMUPlatform NUMANodes NUMADists
""".split()  # noqa: SIM905
DEVICES = """
    Object FSDevice CharDevice LegacySerialDevice SerialDevice NetDevice BlockDevice PVPanicDevice LoaderDevice VhostUserDevice
    PCIeRootPortDevice PCIeSwitchUpstreamPortDevice PCIeSwitchDownstreamPortDevice PXBPCIeDevice VFIODevice SCSIController
    BridgeDevice VSOCKDevice RngDevice BalloonDevice IommuDev CreateCloudInitISO
""".split()  # noqa: SIM905
OBJECTS = (
    "memory-backend-file memory-backend-epc tdx-guest sev-guest sev-snp-guest s390-pv-guest pef-guest rme-guest".split()  # noqa: SIM905
)

#: Fixtures that start a real QEMU, or lead to one.
REAL = {"qemu", "base", "start", "config", "argv", "q35", "bare", "known", "live", "linux"}

#: What the page calls by its name alone.
SHORT = {
    "VirtualMachine": qemustate.VirtualMachine,
    "Client": Client,
    "Config": Config,
    "Capabilities": Capabilities,
    "CommandRefused": CommandRefused,
    "probe": probe,
    "Fd": Fd,
    "Chardev": Chardev,
}


def tables():
    """Return the rows of each table, without its head, under the title above it."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        lines = [line for line in text.splitlines() if line.startswith("|")][2:]
        found[title] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


ROWS = [row for rows in tables().values() for row in rows]


def names(cells):
    """Return what stands in backquotes in the cells."""
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@cache
def functions(path):
    """Return the tests of a file and their arguments."""
    tree = ast.parse((TESTS / path).read_text())
    return {
        it.name: {argument.arg for argument in it.args.args}
        for it in tree.body
        if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def named_in(row):
    """Return (file, test) of each test that a row names."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", row[2])


def test_everything_of_govmm_has_a_row():
    """Each method, field and device is in the first column of its table."""
    found = tables()

    assert set(METHODS) <= set(names(row[0] for row in found["QMP: every method"]))
    assert set(FIELDS) <= set(names(row[0] for row in found["Command line: every field"]))
    assert set(DEVICES) <= set(names(row[0] for row in found["Devices"]))
    assert all(any(kind in row[0] for row in found["Devices"]) for kind in OBJECTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_that_exist(row):
    """Every test is there; one at least meets a real QEMU, or the row says why none can."""
    assert len(row) == 3
    tests = named_in(row)

    assert tests
    assert [(path, name) for path, name in tests if name not in functions(path)] == []
    meets = any(functions(path)[name] & REAL for path, name in tests)
    assert meets or row[2].startswith("none: ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_what_there_is(row):
    """Every function, class and attribute in the middle column exists, and every option is one of QEMU's."""
    for name in names([row[1]]):
        if name.startswith("{"):
            assert re.match(r'\{"([\w-]+)"', name)[1] in NAMES
        elif name in SHORT:
            continue
        elif re.fullmatch(r"[A-Za-z]\w*(\.\w+)+", name):
            head, *rest = name.split(".")
            thing = SHORT.get(head) or import_module(f"qemustate.hardware.{head}")
            for attribute in rest:
                assert hasattr(thing, attribute) or attribute in ANNOTATED.get(thing, ()), name
                thing = getattr(thing, attribute, None)


#: Attributes that only instances have.
ANNOTATED = {Config: Config.__dataclass_fields__, CommandRefused: ("error_class",)}
