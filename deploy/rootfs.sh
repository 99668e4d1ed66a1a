#!/bin/sh
# Lays out the root file system of the image: rootfs.sh BINARY FOLDER. Takes libraries and authorities from this machine, so
# build on the distribution that the image shall be patched with.
set -eu
binary=$1
root=$2
authorities=/etc/ssl/certs/ca-certificates.crt

[ ! -e "$root" ] || { echo "$root is there already; name a new folder" >&2; exit 1; }
[ -r "$authorities" ] || { echo "$authorities is missing; install ca-certificates" >&2; exit 1; }

install -D -m 0755 "$binary" "$root/usr/local/bin/greffe"
# Every library with the path that the loader looks for it under.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 0755 "$library" "$root$library"
done
install -D -m 0644 "$authorities" "$root$authorities"
install -d -m 0755 "$root/etc" "$root/var/lib/greffe"
install -d -m 1777 "$root/tmp"
printf 'greffe:x:65532:65532:greffe:/var/lib/greffe:/\n' >"$root/etc/passwd"
printf 'greffe:x:65532:\n' >"$root/etc/group"
