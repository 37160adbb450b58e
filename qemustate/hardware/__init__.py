"""What a VM is made of: property maps in QEMU's own names, rendered as command lines and as QMP."""
