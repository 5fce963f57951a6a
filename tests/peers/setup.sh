#!/bin/sh
# Unpacks and builds the NTP clients of the tests, and gpsd, into a cache outside the checkout: ${MASER_CACHE:-~/.cache/maser}/peers.
# `setup.sh chrony` prepares chrony only, which is all that the benchmarks need.
#
# For Debian bookworm with gcc and a Rust toolchain. Quick when everything is there. No client is installed: the
# scripts inside its Debian package would start it, and then two daemons would quarrel over this machine's clock.
# What clients.rs finds, by its path below the cache:
#   chrony/ ntpsec/ openntpd/ timesyncd/ ntplib/   one unpacked tree each
#   gpsd/                                          for sources.rs: gpsd and gpsfake, unpacked
#   prometheus/                                    for metrics.rs: prometheus and promtool, unpacked
#   ntpd-rs/bin/ ntpd-rs/clock_shim.so             built here
#   versions                                       what this script found at its last run
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${MASER_CACHE:-$HOME/.cache/maser}/peers
updated=no
only=${1:-}

NTPD_RS=1.9.0

say() { printf 'peers: %s\n' "$*"; }
fail() {
	say "$*" >&2
	exit 1
}

apt_update_once() {
	[ $updated = yes ] && return
	say "apt-get update"
	apt-get update -qq || fail "apt-get update failed: run this as root on a machine that reaches Debian's packages"
	updated=yes
}

apt_install() {
	apt_update_once
	say "installing $*"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# unpack TREE VERSION PACKAGE...: every package must have VERSION (as upstream counts it), or this script needs a look.
unpack() {
	tree=$1 version=$2
	shift 2
	stamp="$version $*"
	[ "$(cat "$cache/$tree/.stamp" 2>/dev/null)" = "$stamp" ] && return
	apt_update_once
	say "unpacking $*"
	rm -rf "${cache:?}/$tree"
	mkdir -p "$cache/$tree/.debs"
	# APT::Sandbox::User: the unprivileged download user can't write below a closed home directory.
	(cd "$cache/$tree/.debs" && apt-get download -qq -o APT::Sandbox::User=root "$@")
	for deb in "$cache/$tree/.debs"/*.deb; do
		case $(dpkg-deb -f "$deb" Version) in
		"$version" | "$version"[!0-9]* | *:"$version" | *:"$version"[!0-9]*) ;;
		*) fail "$(basename "$deb"): expected version $version" ;;
		esac
		dpkg -x "$deb" "$cache/$tree"
	done
	rm -r "$cache/$tree/.debs"
	echo "$stamp" >"$cache/$tree/.stamp"
}

# Libraries of the unpacked programs; none of these packages has a daemon.
missing_libraries() {
	LD_LIBRARY_PATH=$(echo "$cache"/timesyncd/usr/lib/*/systemd):$(echo "$cache"/gpsd/usr/lib/*-linux-*) ldd "$@" |
		grep 'not found'
}
install_libraries() {
	# shellcheck disable=SC2086
	[ -z "$(missing_libraries "$@")" ] || apt_install $LIBRARIES
	[ -z "$(missing_libraries "$@")" ] || fail "libraries are still missing: $(missing_libraries "$@")"
}
LIBRARIES='libacl1 libapparmor1 libaudit1 libblkid1 libbluetooth3 libbsd0 libcap2 libcrypt1 libdbus-1-3 libedit2 libgcrypt20
	libgnutls30 libip4tc2 libkmod2 liblz4-1 liblzma5 libmount1 libnettle8 libpam0g libseccomp2 libselinux1 libssl3
	libusb-1.0-0 libzstd1'

mkdir -p "$cache"

tools=
command -v ip >/dev/null || tools="$tools iproute2"
command -v mount >/dev/null || tools="$tools mount"
command -v unshare >/dev/null && command -v setpriv >/dev/null || tools="$tools util-linux"
python3 -c 'import argparse, ctypes, json, socket' 2>/dev/null || tools="$tools python3"
# gpsfake needs it.
python3 -c 'from distutils import spawn' 2>/dev/null || tools="$tools python3-distutils"
# shellcheck disable=SC2086
[ -z "$tools" ] || apt_install $tools

unpack chrony 4.3 chrony
set -- "$cache/chrony/usr/sbin/chronyd" "$cache/chrony/usr/bin/chronyc"
if [ "$only" = chrony ]; then
	install_libraries "$@"
	exit 0
fi
unpack ntpsec 1.2.2 ntpsec ntpsec-ntpdig python3-ntp
unpack openntpd 6.2p3 openntpd
unpack timesyncd 252 systemd-timesyncd libsystemd-shared
unpack ntplib 0.3.3 python3-ntplib
unpack prometheus 2.42.0 prometheus
unpack gpsd 3.22 gpsd gpsd-clients libgps28 python3-gps

# NTPsec's Python code looks for its library next to itself, else in the machine's own directory.
python=$cache/ntpsec/usr/lib/python3/dist-packages/ntp
[ -e "$python/libntpc.so" ] || cp "$cache"/ntpsec/usr/lib/*/ntp/libntpc.so "$python/libntpc.so"

install_libraries "$@" "$cache/ntpsec/usr/sbin/ntpd" "$cache/openntpd/usr/sbin/ntpd" \
	"$cache/timesyncd/lib/systemd/systemd-timesyncd" "$cache/gpsd/usr/sbin/gpsd"

rs=$cache/ntpd-rs
if [ "$("$rs/bin/ntp-daemon" --version 2>&1 | grep -o '[0-9][0-9.]*$')" != $NTPD_RS ]; then
	say "building ntpd-rs $NTPD_RS, which takes minutes (log: $cache/ntpd-rs.log)"
	mkdir -p "$rs"
	# From another directory, so that no configuration or toolchain file of the checkout reaches this build.
	(cd "$rs" && CARGO_TARGET_DIR="$cache/ntpd-rs-build" nice cargo install ntpd --version $NTPD_RS --locked --force \
		--bins --root "$rs" >"$cache/ntpd-rs.log" 2>&1) || {
		tail -n 20 "$cache/ntpd-rs.log" >&2
		fail "ntpd-rs did not build"
	}
	rm -rf "$cache/ntpd-rs-build"
fi
if ! cmp -s "$here/clock_shim.c" "$rs/clock_shim.c"; then
	say "compiling clock_shim.c"
	gcc -shared -fPIC -O1 -Wall -Wextra -Werror -o "$rs/clock_shim.so" "$here/clock_shim.c"
	cp "$here/clock_shim.c" "$rs/clock_shim.c"
fi

row() { printf '%-12s %-10s %s\n' "$@"; }
stamped() { awk '{ print $1 }' "$cache/$1/.stamp"; }
{
	row client version program
	row chronyd "$("$cache/chrony/usr/sbin/chronyd" --version | awk '{ print $4 }')" chrony/usr/sbin/chronyd
	row ntpdig "$(stamped ntpsec)" ntpsec/usr/bin/ntpdig
	row ntpsec "$(stamped ntpsec)" ntpsec/usr/sbin/ntpd
	row openntpd "$(stamped openntpd)" openntpd/usr/sbin/ntpd
	row timesyncd "$(stamped timesyncd)" timesyncd/lib/systemd/systemd-timesyncd
	row gpsd "$(stamped gpsd)" gpsd/usr/sbin/gpsd
	row prometheus "$(stamped prometheus)" prometheus/usr/bin/prometheus
	row ntpd-rs $NTPD_RS ntpd-rs/bin/ntp-daemon
	row ntplib "$(stamped ntplib)" ntplib/usr/lib/python3/dist-packages/ntplib.py
} >"$cache/versions"
say "ready"
cat "$cache/versions"
