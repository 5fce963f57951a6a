"""802.1Q tags on hosts whose kernel needn't have VLAN devices.

vlan.py tag DEV VLAN      until it is killed, all that leaves DEV is tagged, and nothing comes in without the tag
vlan.py admit DEV VLAN    tells the server's XDP program on DEV that the VLAN is one of this machine's, as the server does
                          when it finds a VLAN device
"""

import ctypes
import json
import os
import signal
import struct
import subprocess
import sys

# linux/bpf.h.
MAP_UPDATE_ELEM, PROG_LOAD, PROG_BY_ID, MAP_BY_ID, INFORMATION, LINK_CREATE = 2, 5, 13, 14, 15, 28
SCHED_CLS, TCX_INGRESS, TCX_EGRESS = 3, 46, 47
PASS, DROP = 0, 2
SKB_VLAN_PUSH, SKB_VLAN_POP = 18, 19
SKB_VLAN_TCI_AT = 24
PROGRAM_MAPS_AT, MAP_NAME_AT = 52, 24

TAG_TYPE = 0x8100
MAPS_MAX = 16
SYSTEM_CALL = {"x86_64": 321, "aarch64": 280}
libc = ctypes.CDLL(None, use_errno=True)


def bpf(what, command, attributes):
    """bpf(2): returns what the kernel does; if it refuses the script ends."""
    room = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(SYSTEM_CALL[os.uname().machine], command, room, len(room))
    if result < 0:
        sys.exit(f"vlan.py: {what}: {os.strerror(ctypes.get_errno())}")
    return result


def information(descriptor, room):
    attributes = struct.pack("=IIQ", descriptor, len(room), ctypes.addressof(room))
    bpf("asking for information", INFORMATION, attributes)


# The packet's context comes in register 1; the verdict goes out in register 0.
def instruction(code, to=0, source=0, jump=0, value=0):
    return struct.pack("=BBhi", code, source << 4 | to, jump, value)


def move(to, value):
    return instruction(0xB7, to, value=value)


def call(helper):
    return instruction(0x85, value=helper)


def jump_unless(value, over):
    return instruction(0x55, jump=over, value=value)


END = instruction(0x95)
PASS_IF_DONE = jump_unless(0, over=2) + move(0, PASS) + END + move(0, DROP) + END


def push(vlan):
    (network_order,) = struct.unpack("=H", struct.pack("!H", TAG_TYPE))
    return move(2, network_order) + move(3, vlan) + call(SKB_VLAN_PUSH) + PASS_IF_DONE


def pop(vlan):
    number = instruction(0x61, 0, 1, SKB_VLAN_TCI_AT) + instruction(0x57, value=0xFFF)
    return number + jump_unless(vlan, over=4) + call(SKB_VLAN_POP) + PASS_IF_DONE


def attach(interface, where, program):
    """For as long as this process lives."""
    code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(code), ctypes.addressof(licence)
    loaded = bpf("loading a program", PROG_LOAD, struct.pack("=IIQQ", SCHED_CLS, len(program) // 8, *addresses))
    bpf("attaching it (tcx: Linux 6.6)", LINK_CREATE, struct.pack("=IIII", loaded, interface, where, 0))


def tag(device, vlan):
    with open(f"/sys/class/net/{device}/ifindex", encoding="ascii") as file:
        interface = int(file.read())
    attach(interface, TCX_EGRESS, push(vlan))
    attach(interface, TCX_INGRESS, pop(vlan))
    print("ready", flush=True)
    signal.pause()


def maps_of(program):
    numbers = (ctypes.c_uint32 * MAPS_MAX)()
    room = ctypes.create_string_buffer(128)
    struct.pack_into("=IQ", room, PROGRAM_MAPS_AT, MAPS_MAX, ctypes.addressof(numbers))
    information(program, room)
    (count,) = struct.unpack_from("=I", room, PROGRAM_MAPS_AT)
    for number in numbers[:count]:
        descriptor = bpf("opening a map", MAP_BY_ID, struct.pack("=I", number))
        room = ctypes.create_string_buffer(128)
        information(descriptor, room)
        (name,) = struct.unpack_from("=16s", room, MAP_NAME_AT)
        yield name.rstrip(b"\0"), descriptor


def admit(device, vlan):
    (link,) = json.loads(subprocess.check_output(["ip", "-j", "link", "show", "dev", device]))
    program = bpf("opening the XDP program", PROG_BY_ID, struct.pack("=I", link["xdp"]["prog"]["id"]))
    # xdp/redirect.bpf.c: the outer number in the upper half; what it leads to doesn't matter.
    key, value = (ctypes.c_uint32(number) for number in (vlan << 16, 1))
    addresses = ctypes.addressof(key), ctypes.addressof(value)
    descriptor = dict(maps_of(program))[b"vlans"]
    bpf("telling the XDP program", MAP_UPDATE_ELEM, struct.pack("=IxxxxQQQ", descriptor, *addresses, 0))


{"tag": tag, "admit": admit}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
