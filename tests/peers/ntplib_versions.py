"""Asks SERVER for the time as NTP version 1, 2, 3 and 4 and says `accepted` if every reply holds up.

ntplib itself checks next to nothing, so the checks of a careful caller are here.
"""

import socket
import sys

import ntplib

STRATUM = 10
LOCAL_REFERENCE = 0x7F7F0101  # 127.127.1.1
SERVER_MODE = 4
OFFSET_SECONDS_MAX = 1.0

server = sys.argv[1]
# ntplib 0.3.3 opens its socket in the family of the first address that getaddrinfo returns.
print("asking", socket.getaddrinfo(server, "ntp", type=socket.SOCK_DGRAM)[0][4])

worst = 0.0
for version in (1, 2, 3, 4):
    reply = ntplib.NTPClient().request(server, version=version, timeout=5)
    print(
        f"version {reply.version} mode {reply.mode} leap {reply.leap} stratum {reply.stratum} "
        f"reference {reply.ref_id:08x} delay {reply.delay:.6f} offset {reply.offset:+.6f}"
    )
    expected = (version, SERVER_MODE, 0, STRATUM, LOCAL_REFERENCE)
    found = (reply.version, reply.mode, reply.leap, reply.stratum, reply.ref_id)
    if found != expected:
        sys.exit(f"refused: version, mode, leap, stratum, reference are {found}, expected {expected}")
    if not abs(reply.offset) < OFFSET_SECONDS_MAX or not reply.recv_time <= reply.tx_time:
        sys.exit(f"refused: received {reply.recv_time}, sent {reply.tx_time}, offset {reply.offset}")
    worst = max(worst, abs(reply.offset))

print(f"accepted versions 1 2 3 4 from {server}, stratum {STRATUM}, offset within {worst:.6f} s")
