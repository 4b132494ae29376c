#!/bin/sh
# The first program of the Debian guest's initramfs: loads the modules of the disk, and starts the system on it.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

while read -r module; do
    insmod /lib/modules/$module
done </lib/modules/order

# The names of disks depend on what else a VM has.
disk=$(findfs LABEL=maqet-debian)
mount -t ext4 "$disk" /mnt || exec sh </dev/console >/dev/console 2>&1

umount /proc /sys
exec switch_root /mnt /sbin/init "$@"
