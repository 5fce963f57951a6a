"""A server whose every reply has the wrong origin timestamp: what a spoofer who can't see the requests would send.

No client may accept it. It proves that the tests with real clients are able to fail. `liar.py ADDRESS 0` gets it right,
in basic mode whatever was asked for.
"""

import socket
import struct
import sys
import time

SECONDS_1900_TO_1970 = 2_208_988_800
LIE_SECONDS = 1000

address = sys.argv[1]
lie_seconds = int(sys.argv[2]) if len(sys.argv) > 2 else LIE_SECONDS
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as port:
    port.bind((address, 123))
    print("ready", flush=True)
    while True:
        request, client = port.recvfrom(2048)
        if len(request) < 48:
            continue
        now = int((time.time() + SECONDS_1900_TO_1970) * 2**32)
        (origin,) = struct.unpack("!Q", request[40:48])
        lie = (origin + (lie_seconds << 32)) % 2**64
        first = request[0] & 0x38 | 4
        port.sendto(
            struct.pack(
                "!BBBbII4sQQQQ", first, 10, request[2], -20, 0, 16, bytes([127, 127, 1, 1]), now, lie, now, now + 4096
            ),
            client,
        )
