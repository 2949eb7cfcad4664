#!/bin/bash
# Runs a real systemd that has nothing but our unit, in namespaces of its own: what it writes to /etc, /opt, /run,
# /tmp and /var is gone with it. Usage: systemd.sh FOLDER PYTHON-ENVIRONMENT UNITS; FOLDER/opt is where the
# environment appears as /opt/dcnios. Ends when its systemd is killed.
set -eu
folder=$1 environment=$2 units=$3
export folder environment units

over() {  # over DIRECTORY [LOWER]: changes to it go to memory
    mkdir -p "/run/$1/upper" "/run/$1/work"
    mount -t overlay overlay -o "lowerdir=${2-$1},upperdir=/run/$1/upper,workdir=/run/$1/work" "$1"
}

inside() {
    mount -t tmpfs tmpfs /run
    for place in /etc /var /opt; do over $place; done
    mkdir -p /opt/dcnios
    over /opt/dcnios "$environment"
    /opt/dcnios/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation .
    mkdir /run/units
    cp -r "$units/." /run/units
    cp -r "$folder/etc/." /etc
    mount -t tmpfs tmpfs /tmp
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    # The layout that systemd takes for its own on any kernel that has both kinds of control groups.
    umount --recursive /sys/fs/cgroup
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/{systemd,unified}
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    mount --make-rshared /  # within these namespaces; systemd hands over credentials by mounts
    exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH=/run/units \
        /usr/lib/systemd/systemd --system --unit=test.target --log-target=null --show-status=no
}

outside() {
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/{named,unified}
    mount -t cgroup -o none,name=systemd cgroup /mnt/named
    mount -t cgroup2 cgroup2 /mnt/unified
    for kind in named unified; do
        mkdir "/mnt/$kind/dcnios-systemd-$$"
        echo $$ > "/mnt/$kind/dcnios-systemd-$$/cgroup.procs"
    done
    unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --mount-proc "$0" "$@" inside || true
    for kind in named unified; do
        echo $$ > "/mnt/$kind/cgroup.procs"
        find "/mnt/$kind/dcnios-systemd-$$" -depth -type d -exec rmdir {} +
    done
}

case ${4-} in
    inside) inside ;;
    outside) outside "$1" "$2" "$3" ;;
    *) exec unshare --mount "$0" "$1" "$2" "$3" outside ;;
esac
