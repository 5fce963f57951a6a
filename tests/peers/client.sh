#!/bin/sh
# client.sh NAME SERVER PEERS: runs one real client against SERVER until somebody kills it or SECONDS_MAX have passed.
#
# Called by client.rs in a network, mount and PID namespace of its own, without CAP_SYS_TIME. What a client writes goes
# to a tmpfs that vanishes with the namespace; the machine's files are only read. All that the client and its query tool
# say goes to standard output, where client.rs looks for the evidence.
set -eu
exec 2>&1

name=$1
server=$2
here=$(cd "$(dirname "$0")" && pwd)
SECONDS_MAX=60

# clients.rs reads what they print.
export TZ=UTC LC_ALL=C

mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/peers /run/client
# An unprivileged client can't reach a cache below a closed home directory by its own path.
mount --bind "$3" /run/peers
peers=/run/peers
cd /run/client

# Asks once a second, as a person at a terminal would.
keep_asking() {
	for _ in $(seq $SECONDS_MAX); do
		sleep 1
		timeout 5 "$@" || true
	done
}

case $name in
chronyd-once)
	exec "$peers/chrony/usr/sbin/chronyd" -Q -t 20 -u root \
		"server $server iburst" "pidfile /run/client/pid" "cmdport 0" "bindcmdaddress /"
	;;
chronyd)
	mkdir -m 750 control
	cat >chrony.conf <<-EOF
		server $server iburst minpoll 1 maxpoll 1
		pidfile /run/client/pid
		cmdport 0
		bindcmdaddress /run/client/control/chronyd.sock
	EOF
	"$peers/chrony/usr/sbin/chronyd" -x -d -u root -f chrony.conf &
	keep_asking "$peers/chrony/usr/bin/chronyc" -h /run/client/control/chronyd.sock -n sources
	;;
chronyd-xleave)
	mkdir -m 750 control
	cat >chrony.conf <<-EOF
		server $server iburst xleave minpoll -2 maxpoll -2
		pidfile /run/client/pid
		cmdport 0
		bindcmdaddress /run/client/control/chronyd.sock
	EOF
	"$peers/chrony/usr/sbin/chronyd" -x -d -u root -f chrony.conf &
	chronyc() { timeout 5 "$peers/chrony/usr/bin/chronyc" -h /run/client/control/chronyd.sock -n "$@" || true; }
	# What it says of the last reply, how many there were, and what it makes of all, in one line.
	for _ in $(seq $SECONDS_MAX); do
		sleep 2
		{
			chronyc ntpdata | grep -E '^(Interleaved|TX timestamping|Offset|Total valid RX)'
			chronyc sourcestats | tail -n 1
		} | tr -s '[:space:]' ' '
		echo
	done
	;;
ntpdig)
	export PYTHONPATH="$peers/ntpsec/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
	exec python3 "$peers/ntpsec/usr/bin/ntpdig" -t 5 "$server"
	;;
ntpsec)
	export PYTHONPATH="$peers/ntpsec/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
	# Without the restrict lines it doesn't answer ntpq at all.
	cat >ntp.conf <<-EOF
		server $server iburst minpoll 3 maxpoll 3
		restrict default kod nomodify nopeer noquery limited
		restrict 127.0.0.1
		restrict ::1
	EOF
	"$peers/ntpsec/usr/sbin/ntpd" -n -g -c ntp.conf &
	keep_asking python3 "$peers/ntpsec/usr/bin/ntpq" -pn 127.0.0.1
	;;
openntpd)
	# It separates privileges: it wants a user of its own with a home to lock its unprivileged part into.
	mount -t tmpfs -o mode=755 tmpfs /var/lib
	mkdir -p /var/lib/openntpd/run /var/lib/openntpd/db home
	cp /etc/passwd passwd
	echo 'ntpd:x:64001:65534::/run/client/home:/bin/false' >>passwd
	mount --bind passwd /etc/passwd
	echo "server $server" >ntpd.conf
	exec timeout $SECONDS_MAX "$peers/openntpd/usr/sbin/ntpd" -d -v -f ntpd.conf
	;;
timesyncd)
	# As root it insists on keeping CAP_SYS_TIME; as anybody else it takes what it is given.
	mount -t tmpfs -o mode=755 tmpfs /var/lib
	mkdir -p /run/systemd/timesync /run/systemd/timesyncd.conf.d /var/lib/systemd/timesync
	printf '[Time]\nNTP=\nNTP=%s\nFallbackNTP=\n' "$server" >/run/systemd/timesyncd.conf.d/test.conf
	chown -R 65534:65534 /run/systemd /var/lib/systemd
	export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_COLOR=0
	LD_LIBRARY_PATH=$(echo "$peers"/timesyncd/usr/lib/*/systemd)
	export LD_LIBRARY_PATH
	exec timeout $SECONDS_MAX setpriv --reuid 65534 --regid 65534 --clear-groups \
		"$peers/timesyncd/lib/systemd/systemd-timesyncd"
	;;
ntpd-rs)
	cat >ntp.toml <<-EOF
		[observability]
		observation-path = "/run/client/observe.sock"
		[[source]]
		mode = "server"
		address = "$server"
		[synchronization]
		minimum-agreeing-sources = 1
	EOF
	LD_PRELOAD="$peers/ntpd-rs/clock_shim.so" "$peers/ntpd-rs/bin/ntp-daemon" -c ntp.toml &
	# One line for each status, since one fact alone (its own stratum, or our address) would prove little.
	for _ in $(seq $SECONDS_MAX); do
		sleep 1
		timeout 5 "$peers/ntpd-rs/bin/ntp-ctl" status -c ntp.toml | tr -s '[:space:]' ' '
		echo
	done
	;;
ntplib)
	export PYTHONPATH="$peers/ntplib/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
	exec python3 "$here/ntplib_versions.py" "$server"
	;;
*)
	echo "client.sh: no client named '$name'"
	exit 2
	;;
esac
