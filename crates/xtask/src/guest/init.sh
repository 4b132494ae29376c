#!/bin/sh
# The first program of the test guest: loads modules, prints the hardware it finds on the serial line, and runs a
# shell there. Starting a program takes an emulated CPU about 20 ms, so builtins of the shell are preferred.
export PATH=/bin HOME=/root TERM=vt100 PS1='guest# '
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

line=/dev/ttyS0
[ -c $line ] || line=/dev/console
exec <$line >$line 2>&1

while read -r module; do
    insmod /lib/modules/$module || echo "maqet-guest: module $module was refused"
done </lib/modules/order

# Needs an event device, which the power button has once `button` and `evdev` are loaded.
acpid

mem_kib=unknown
while read -r key value unit; do
    [ "$key" = MemTotal: ] && mem_kib=$value && break
done </proc/meminfo

cpus=0
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    cpus=$((cpus + 1))
done

disks=
for disk in /sys/block/vd* /sys/block/sd* /sys/block/nvme*; do
    [ -e $disk/size ] || continue
    read -r sectors <$disk/size
    disks=$disks${disks:+,}${disk##*/}:$((sectors * 512))
done

firmware=bios
[ -d /sys/firmware/efi ] && firmware=uefi

echo "maqet-guest: mem_kib=$mem_kib cpus=$cpus disks=${disks:-none} firmware=$firmware"
echo "maqet-guest: ready"

cd /root
while :; do
    # A session of its own, so that the line is the shell's terminal and Ctrl-C works.
    setsid sh -c "exec sh -i <$line >$line 2>&1"
done
