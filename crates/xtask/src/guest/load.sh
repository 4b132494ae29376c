#!/bin/sh
# Loads modules on request, with their dependencies first: `load virtio_net`.
for name; do
    while read -r module; do
        [ -d /sys/module/${module%.ko} ] || insmod /lib/modules/$module
    done </lib/modules/$name.order
done
