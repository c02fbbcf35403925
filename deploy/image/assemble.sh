#!/bin/sh
# Copies the files of installed Debian packages, and nothing else, into an empty root:
# a C library, OpenSSL and Python, no shell, no package manager, no second user.
set -eu
root=$1
shift

mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/ssl/certs" "$root/var/lib/dpkg/status.d"
for merged in bin sbin lib lib64; do ln -s "usr/$merged" "$root/$merged"; done
for package in "$@"; do
    dpkg-query --listfiles "$package" |
        grep -Ev '^/(\.|bin|sbin|lib|lib64)$|^/usr/share/(doc/.*/(change|NEWS|README|TODO|examples)|man|info|lintian|locale|pixmaps|applications|bug)' |
        tar --create --no-recursion --files-from - 2>/dev/null | tar --extract --keep-directory-symlink --directory "$root"
    # Where scanners look for packages in an image that has no dpkg.
    dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/${package%%:*}"
done
rm -rf "$root/usr/lib/python3.11/ensurepip" "$root/usr/lib/python3.11/lib2to3" "$root/usr/lib/python3.11/pydoc_data"
python3.11 -m compileall -q -s "$root" --invalidation-mode unchecked-hash "$root/usr/lib/python3.11"

cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp /etc/nsswitch.conf "$root/etc/"
echo 'root:x:0:0:root:/:/usr/sbin/nologin
sidecar:x:10001:10001:auth-sidecar:/:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'root:x:0:
sidecar:x:10001:' >"$root/etc/group"
mkdir -p "$root/etc/sidecar" "$root/opt" "$root/tmp"
chmod 1777 "$root/tmp"
ldconfig -r "$root"
