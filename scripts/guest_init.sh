#!/bin/busybox sh
# The guest's only process. It loads its drivers, powers off on the ACPI button, and runs each line it reads from ttyS0:
# the output, then `@@RC=status@@`. It says `@@READY@@` first. Kernel messages belong on ttyS1.
#
# Words on the kernel command line: `guest.nodrivers` loads none; `guest.nobutton` ignores the button; `guest.online` puts
# memory that is plugged to use at once.
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

asked() { grep -qw "guest.$1" /proc/cmdline; }

asked nodrivers || for module in virtio_pci virtio_blk virtio_net virtio_scsi virtio_balloon virtio_console virtio_mem \
    virtio-rng sd_mod xhci-pci usb-storage e1000e pvpanic-mmio pvpanic-pci; do
    modprobe $module
done
if ! asked nobutton; then
    modprobe button
    modprobe evdev
    mkdir -p /etc/acpi/PWRF
    printf '#!/bin/sh\npoweroff -f\n' >/etc/acpi/PWRF/00000080
    chmod +x /etc/acpi/PWRF/00000080
    acpid -d >/dev/null 2>&1 &
fi
asked online && echo online_movable >/sys/devices/system/memory/auto_online_blocks

stty -F /dev/ttyS0 raw -echo 115200
exec 3<>/dev/ttyS0
echo "@@READY@@" >&3
while read -r line <&3; do
    [ -z "$line" ] && continue
    eval "$line" >&3 2>&1
    echo "@@RC=$?@@" >&3
done
