#!/bin/sh
# A base image made of Debian's packages, for machines that cannot pull one.
#
#   docker/debian_base.sh IMAGE FOLDER [CERTIFICATES]
#
# FOLDER keeps the packed system, so that the next call takes seconds. CERTIFICATES, a file of PEM certificates that
# this network needs, becomes the system's bundle. Needs root, debootstrap and podman.
set -eu

[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
image=$1
folder=$2
certificates=${3:-}
suite=bookworm
packed=$folder/$suite.tar

mkdir -p "$folder"
if [ ! -f "$packed" ]; then
    system=$(mktemp -d "$folder/system.XXXXXX")
    trap 'rm -rf "$system" "$packed.part"' EXIT
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$system" >"$folder/log"
    rm -rf "$system"/var/cache/apt/archives/*.deb "$system"/var/lib/apt/lists/*
    [ -z "$certificates" ] || cp "$certificates" "$system/etc/ssl/certs/ca-certificates.crt"
    tar -C "$system" -cf "$packed.part" .
    mv "$packed.part" "$packed"
fi
podman import --quiet "$packed" "$image"
