"""The present: a live QEMU, recorded."""
