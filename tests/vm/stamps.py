#!/usr/bin/env python3
"""Sends frames from one interface to another and prints what the kernel says of when they passed.

stamps.py NAMESPACE SENDER_ADDRESS RECEIVER_ADDRESS SENDER_CLOCK RECEIVER_CLOCK FRAMES: the receiver is in NAMESPACE, the clocks are
the interfaces' PTP devices. A line for each frame: hardware transmit, hardware receive and software receive stamp, all as
CLOCK_MONOTONIC_RAW in ns, or `none`; and how far apart the readings were by which they were converted.
"""
import ctypes
import os
import socket
import struct
import sys
import time

# linux/net_tstamp.h: both kinds, both ways; numbered, without the frame.
TX_HARDWARE, TX_SOFTWARE, RX_HARDWARE, RX_SOFTWARE, SOFTWARE, RAW_HARDWARE = 1, 2, 4, 8, 16, 64
OPT_ID, OPT_TSONLY = 128, 2048
SO_TIMESTAMPING = 37
PORT = 5000
LIMIT_S = 1.0


def ns_of(clock):
    """CLOCK_MONOTONIC_RAW in the middle of reading `clock` between two readings of it, the clock, how far apart they were."""
    best = None
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        at = time.clock_gettime_ns(clock)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        if best is None or after - before < best[2]:
            best = ((before + after) // 2, at, after - before)
    return best


def raw_of(clock, ns):
    if ns is None:
        return None, 0
    raw, at, apart = ns_of(clock)
    return raw + ns - at, apart


def stamps(ancillary):
    """Software and hardware stamp of a message, None where there is none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING:
            numbers = struct.unpack("6q", data[:48])
            found = [numbers[i] * 10**9 + numbers[i + 1] for i in (0, 4)]
            return [ns or None for ns in found]
    return [None, None]


def opened(address):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, PORT))
    flags = TX_HARDWARE | TX_SOFTWARE | RX_HARDWARE | RX_SOFTWARE | SOFTWARE | RAW_HARDWARE | OPT_ID | OPT_TSONLY
    udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
    udp.settimeout(LIMIT_S)
    return udp


def enter(path):
    with open(path) as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def main():
    namespace, sender_address, receiver_address, sender_clock, receiver_clock, frames = sys.argv[1:]
    # FD_TO_CLOCKID of clock_gettime(2).
    clocks = [(~os.open(path, os.O_RDWR) << 3) | 3 for path in (sender_clock, receiver_clock)]
    sender = opened(sender_address)
    sender.setblocking(False)
    enter("/run/netns/" + namespace)
    receiver = opened(receiver_address)
    # The kernel begins to stamp in software some time after it was asked to.
    time.sleep(0.2)
    for number in range(int(frames)):
        sender.sendto(b"x" * 48, (receiver_address, PORT))
        rx_software, rx_hardware = stamps(receiver.recvmsg(200, 500)[1])
        rx, rx_apart = raw_of(clocks[1], rx_hardware)
        software, _ = raw_of(time.CLOCK_REALTIME, rx_software)
        tx_hardware, tx_apart = None, 0
        # One of each kind; the hardware's may never come.
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline and tx_hardware is None:
            try:
                tx_hardware = stamps(sender.recvmsg(200, 500, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[1])[1]
            except BlockingIOError:
                time.sleep(0.005)
        tx, tx_apart = raw_of(clocks[0], tx_hardware)
        print(*("none" if ns is None else ns for ns in (tx, rx, software)), max(rx_apart, tx_apart))
        time.sleep(0.01)


main()
