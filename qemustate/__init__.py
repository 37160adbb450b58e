"""The life of a QEMU virtual machine as a log of facts, and its state as a fold over that log."""

__version__ = "0.1.0"
