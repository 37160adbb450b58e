#!/bin/sh
# Build the small Linux guest of the recordings and of the live tests: .cache/guest/vmlinuz and .cache/guest/initrd.img.
#
# The kernel and busybox are the release's own packages, unpacked and never installed. Nothing here names a kernel version.
# What the guest does is in guest_init.sh. Quick when everything is there; on failure one line, and exit status 0 when told
# `--if-possible`, so that the tests that need the guest are skipped by name.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
guest=${here%/*}/.cache/guest
# Built in (Debian): serial, ACPI, PCI hotplug by ACPI and by PCIe, memory and CPU hotplug, suspend.
modules="virtio_pci virtio_blk virtio_net virtio_scsi virtio_balloon virtio_console virtio_mem virtio-rng
sd_mod usb-storage xhci-pci e1000e button evdev pvpanic-mmio pvpanic-pci i6300esb
virtiofs nfit nd_pmem"

fail() {
    echo "guest: MISSING: $1"
    [ "${2:-}" = --if-possible ] && exit 0
    exit 1
}

if [ -f "$guest/initrd.img" ] && [ -f "$guest/vmlinuz" ] &&
    [ ! "$here/build_guest.sh" -nt "$guest/initrd.img" ] && [ ! "$here/guest_init.sh" -nt "$guest/initrd.img" ]; then
    echo "guest: $guest"
    exit 0
fi

work=$guest/work
rm -rf "$work"
mkdir -p "$work/root/bin"
said=$(python3 "$here/debian.py" "$work/packages" "linux-image-amd64>linux-image-" busybox-static 2>&1) ||
    fail "$said" "${1:-}"

busybox=$(echo "$work"/packages/*bin/busybox "$work"/packages/usr/*bin/busybox | tr ' ' '\n' | grep -v '\*' | head -1)
cp "$busybox" "$work/root/bin/busybox"
cp "$here/guest_init.sh" "$work/root/init"
chmod +x "$work/root/init"

kernel=$(basename "$(echo "$work"/packages/lib/modules/*)")
tree=lib/modules/$kernel
"$busybox" depmod -b "$work/packages" "$kernel"
# A line of modules.dep names a module and all it stands on.
for module in $modules; do
    pattern=$(echo "$module" | sed 's/[-_]/[-_]/g')
    grep -E "^([^:]*/)?$pattern\.ko[^:]*:" "$work/packages/$tree/modules.dep" >>"$work/needed" ||
        fail "the kernel $kernel has no module $module" "${1:-}"
done
tr -d : <"$work/needed" | tr ' ' '\n' | sort -u | sed "/^$/d; s|^/*$tree/||" >"$work/files"
mkdir -p "$work/root/$tree"
(cd "$work/packages/$tree" && "$busybox" cpio -o -H newc <"$work/files" 2>/dev/null) |
    (cd "$work/root/$tree" && "$busybox" cpio -i -d 2>/dev/null)
"$busybox" depmod -b "$work/root" "$kernel"

cp "$work/packages/boot/vmlinuz-$kernel" "$guest/vmlinuz"
(cd "$work/root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$guest/initrd.new"
mv "$guest/initrd.new" "$guest/initrd.img"
rm -rf "$work"
echo "guest: $guest"
