#!/bin/sh
# Loads modules that the guest has but does not load by itself, each after those it needs: `load virtio_net`.
for name; do
    while read -r module; do
        [ -d /sys/module/${module%.ko} ] || insmod /lib/modules/$module
    done </lib/modules/$name.order
done
