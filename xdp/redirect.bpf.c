/* The server's programs in the kernel: they steer plain requests past the network stack.
 *
 *   redirect        for any device, native or generic
 *   redirect_nic    bound to one device, native: it asks the driver when the NIC stamped the frame
 *
 * Both decide the same. A whole UDP datagram over Ethernet and IP without options, to an address and port that are
 * served, goes to the AF_XDP socket of the queue that it came by, with `struct metadata` in front; all else goes on to
 * the kernel as it came, but for what limit.bpf.h drops. Each frame counts once, by the first reason that keeps it from a
 * socket. What is answered is decided in user space. README.md has the rules and the verifier's side.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual MIT/GPL";

#define TYPE_TAG 0x8100
#define TYPE_SERVICE_TAG 0x88A8
#define VLAN_MASK 0x0FFF
#define STATIONS 8
#define QUEUES_MAX 1024
/* "More fragments" and the fragment's offset. */
#define FRAGMENT_BITS 0x3FFF
#define NEXT_FRAGMENT 44
/* core/src/wire: DATAGRAM_LENGTH_MAX of payload, under IPv6 and two tags. A socket's frames are laid out for it. */
#define FRAME_LENGTH_MAX (ETH_HLEN + 2 * 4 + 40 + 8 + 1280)

/* What a frame counts as: the first of these that holds, in the order of the headers. sys/src/xdp_program/reasons.rs
 * has the same names in the same order. */
enum reason {
	STEERED,
	TRUNCATED,
	GROUP,
	ANOTHER_STATION,
	TAGS,
	VLAN,
	NOT_IP,
	BAD_IP_HEADER,
	IP4_OPTIONS,
	FRAGMENT,
	IP6_EXTENSION,
	NOT_UDP,
	NOT_SERVED,
	PARTIAL_CHECKSUM,
	TOO_LONG,
	DROPPED_SHORT,
	DROPPED_VERSION,
	DROPPED_MODE,
	DROPPED_DENIED,
	DROPPED_BOGON,
	DROPPED_LIMITED,
	DROPPED_OVERLOAD,
	NO_SOCKET,
	NO_ROOM,
	REASONS
};

/* In front of the frame; sys/src/xdp_program.rs names the offsets. */
struct metadata {
	/* When the driver handed the frame over, by CLOCK_MONOTONIC. */
	__u64 hook_ns;
	/* When the NIC stamped it, by the NIC's own clock; 0: it didn't. */
	__u64 nic_ns;
	/* Which listen address it was sent to, and that one's port. */
	__u32 listener;
	__u16 port;
	/* How many datagrams it stands for, itself and those dropped like it. */
	__u16 weight;
};

/* ---- What user space says, and what it is told ------------------------------------------------------------------- */

struct destination {
	/* IPv4's in the first word. */
	__be32 address[4];
	__be16 port;
	/* 4 or 6. */
	__u16 version;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct destination);
	/* The listen address's index. */
	__type(value, __u32);
} destinations SEC(".maps");

/* Outer << 16 | inner; a single tag's inner is 0. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} vlans SEC(".maps");

/* Hardware addresses in the order of the network and two octets of zeros; unused places are zeros. Whoever sees one half
 * written lets a frame go on that a socket would have got. */
volatile __u64 stations[STATIONS] SEC(".data.stations");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct counts {
	__u64 of[REASONS];
};

/* A core's counts have one writer, since its XDP programs don't interrupt each other; user space reads them where they
 * lie. The loader makes room for as many cores as there are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

/* ---- From the outside in ----------------------------------------------------------------------------------------- */

struct source {
	/* IPv4's in the first word. */
	__be32 address[4];
	/* 4 or 6. */
	__u32 version;
};

/* A frame as far as it was read. */
struct frame {
	void *at;
	void *end;
	/* Octets that the last header read says it carries. */
	__u32 carried;
	/* The addresses' words added up. */
	__u64 addresses;
	struct source source;
};

static __always_inline int is_station(__u64 address)
{
	int found = 0;
#pragma unroll
	for (int place = 0; place < STATIONS; place++)
		found |= stations[place] == address;
	return found && address != 0;
}

/* Whether it was sent to this station alone. */
static __always_inline enum reason read_station(struct frame *frame)
{
	const __u16 *halves = frame->at;
	if (frame->at + ETH_HLEN > frame->end)
		return TRUNCATED;
	if (*(const __u8 *)halves & 1)
		return GROUP;
	frame->at += 2 * ETH_ALEN;
	return is_station(halves[0] | (__u64)halves[1] << 16 | (__u64)halves[2] << 32) ? STEERED : ANOTHER_STATION;
}

static __always_inline int is_tag(__be16 type)
{
	return type == bpf_htons(TYPE_TAG) || type == bpf_htons(TYPE_SERVICE_TAG);
}

/* Goes past a tag, if there is one; its VLAN's bits come behind those there are. */
static __always_inline enum reason read_tag(struct frame *frame, __u32 *vlan, int *tags)
{
	const __be16 *halves = frame->at;
	if (!is_tag(halves[0]))
		return STEERED;
	if ((void *)(halves + 3) > frame->end)
		return TRUNCATED;
	*vlan |= (bpf_ntohs(halves[1]) & VLAN_MASK) << (*tags ? 0 : 16);
	*tags += 1;
	frame->at += 4;
	return STEERED;
}

/* Up to two tags of VLANs that this machine has. */
static __always_inline enum reason read_tags(struct frame *frame)
{
	__u32 vlan = 0;
	int tags = 0;
	if (read_tag(frame, &vlan, &tags) || (tags && read_tag(frame, &vlan, &tags)))
		return TRUNCATED;
	if (!tags)
		return STEERED;
	if (is_tag(*(const __be16 *)frame->at))
		return TAGS;
	return bpf_map_lookup_elem(&vlans, &vlan) ? STEERED : VLAN;
}

/* A length in a header. The verifier of Linux 6.12 takes what a swap leaves for any number, and refuses to add it to a
 * pointer; the compiler knows better, and without the barrier would leave the mask out. */
static __always_inline __u32 length_of(__be16 field)
{
	__u32 length = bpf_ntohs(field);
	asm volatile("" : "+r"(length));
	return length & 0xFFFF;
}

static __always_inline enum reason read_ip4(struct frame *frame, struct destination *to)
{
	const struct iphdr *ip = frame->at;
	if ((void *)(ip + 1) > frame->end)
		return TRUNCATED;
	__u8 first = *(const __u8 *)ip;
	if (first != 0x45)
		return first >> 4 == 4 && first > 0x45 ? IP4_OPTIONS : BAD_IP_HEADER;
	if (ip->frag_off & bpf_htons(FRAGMENT_BITS))
		return FRAGMENT;
	if (ip->protocol != IPPROTO_UDP)
		return NOT_UDP;
	__u32 length = length_of(ip->tot_len);
	if (length < sizeof(*ip) || (void *)ip + length > frame->end)
		return TRUNCATED;
	frame->carried = length - sizeof(*ip);
	frame->addresses = (__u64)ip->saddr + ip->daddr;
	frame->source.address[0] = ip->saddr;
	frame->source.version = 4;
	to->address[0] = ip->daddr;
	to->version = 4;
	frame->at += sizeof(*ip);
	return STEERED;
}

/* IANA's list of IPv6 extension header types, without the fragment's. */
static __always_inline enum reason next_header(__u8 next)
{
	switch (next) {
	case IPPROTO_UDP: return STEERED;
	case NEXT_FRAGMENT: return FRAGMENT;
	case 0: case 43: case 50: case 51: case 60: case 135: case 139: case 140: case 253: case 254: return IP6_EXTENSION;
	default: return NOT_UDP;
	}
}

static __always_inline enum reason read_ip6(struct frame *frame, struct destination *to)
{
	const struct ipv6hdr *ip = frame->at;
	if ((void *)(ip + 1) > frame->end)
		return TRUNCATED;
	if (*(const __u8 *)ip >> 4 != 6)
		return BAD_IP_HEADER;
	enum reason reason = next_header(ip->nexthdr);
	if (reason != STEERED)
		return reason;
	frame->carried = length_of(ip->payload_len);
	if ((void *)(ip + 1) + frame->carried > frame->end)
		return TRUNCATED;
#pragma unroll
	for (int word = 0; word < 4; word++) {
		frame->source.address[word] = ip->saddr.in6_u.u6_addr32[word];
		to->address[word] = ip->daddr.in6_u.u6_addr32[word];
		frame->addresses += (__u64)ip->saddr.in6_u.u6_addr32[word] + ip->daddr.in6_u.u6_addr32[word];
	}
	frame->source.version = 6;
	to->version = 6;
	frame->at += sizeof(*ip);
	return STEERED;
}

/* A type and what it announces: IP. */
static __always_inline enum reason read_ip(struct frame *frame, struct destination *to)
{
	__be16 type = *(const __be16 *)frame->at;
	frame->at += sizeof(type);
	if (type == bpf_htons(ETH_P_IP))
		return read_ip4(frame, to);
	return type == bpf_htons(ETH_P_IPV6) ? read_ip6(frame, to) : NOT_IP;
}

/* Whether the checksum is no more than the pseudo-header's sum, which a sender on the same host leaves there for a NIC that
 * the frame never passed (Linux, Documentation/networking/checksum-offloads.rst). The kernel knows such a packet by what
 * lies outside of it. Of others whose checksum is this by chance, one in 65,536, it answers as well. */
static __always_inline int is_partial(const struct frame *frame, const struct udphdr *udp)
{
	__u64 sum = frame->addresses + bpf_htons(IPPROTO_UDP) + udp->len;
#pragma unroll
	for (int round = 0; round < 3; round++)
		sum = (sum & 0xFFFF) + (sum >> 16);
	return udp->check == sum;
}

/* A whole datagram to what is served; the listen address's index. */
static __always_inline enum reason read_udp(struct frame *frame, struct destination *to, __u32 *listener)
{
	const struct udphdr *udp = frame->at;
	if ((void *)(udp + 1) > frame->end)
		return TRUNCATED;
	to->port = udp->dest;
	__u32 length = bpf_ntohs(udp->len);
	if (length < sizeof(*udp) || length > frame->carried)
		return TRUNCATED;
	const __u32 *found = bpf_map_lookup_elem(&destinations, to);
	if (!found)
		return NOT_SERVED;
	if (is_partial(frame, udp))
		return PARTIAL_CHECKSUM;
	*listener = *found;
	frame->at += sizeof(*udp);
	frame->carried = length - sizeof(*udp);
	return STEERED;
}

static __always_inline enum reason read(struct frame *frame, struct destination *to, __u32 *listener)
{
	void *start = frame->at;
	enum reason reason = read_station(frame);
	if (reason == STEERED)
		reason = read_tags(frame);
	if (reason == STEERED)
		reason = read_ip(frame, to);
	if (reason == STEERED)
		reason = read_udp(frame, to, listener);
	if (reason == STEERED && start + FRAME_LENGTH_MAX < frame->end)
		reason = TOO_LONG;
	return reason;
}

#include "limit.bpf.h"

/* ---- To a socket ------------------------------------------------------------------------------------------------- */

/* Absent where the kernel doesn't know it; `redirect_nic` isn't loaded there. */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *context, __u64 *ns) __weak __ksym;

/* The frame itself stays as it is, whatever becomes of it. */
static __always_inline enum reason steer(struct xdp_md *context, __u64 hook_ns, int asks_nic)
{
	struct frame frame = { .at = (void *)(long)context->data, .end = (void *)(long)context->data_end };
	struct destination to = {};
	__u32 listener = 0;
	__u16 weight = 1;
	enum reason reason = read(&frame, &to, &listener);
	if (reason == STEERED)
		reason = judge(&frame, context->rx_queue_index, hook_ns, &weight);
	if (reason != STEERED)
		return reason;
	/* This says where to, and happens when the program returns so. */
	if (bpf_redirect_map(&sockets, context->rx_queue_index, XDP_PASS) != XDP_REDIRECT)
		return NO_SOCKET;
	/* Somebody else's metadata stays: ours must lie right before the frame. */
	if ((void *)(long)context->data_meta < (void *)(long)context->data)
		return NO_ROOM;
	__u64 nic_ns = 0;
	if (asks_nic && bpf_xdp_metadata_rx_timestamp(context, &nic_ns) != 0)
		nic_ns = 0;
	if (bpf_xdp_adjust_meta(context, -(int)sizeof(struct metadata)) != 0)
		return NO_ROOM;
	struct metadata *metadata = (void *)(long)context->data_meta;
	if ((void *)(metadata + 1) > (void *)(long)context->data)
		return NO_ROOM;
	metadata->hook_ns = hook_ns;
	metadata->nic_ns = nic_ns;
	metadata->listener = listener;
	metadata->port = bpf_ntohs(to.port);
	metadata->weight = weight;
	return STEERED;
}

static __always_inline int is_drop(enum reason reason)
{
	return reason >= DROPPED_SHORT && reason <= DROPPED_OVERLOAD;
}

static __always_inline int run(struct xdp_md *context, int asks_nic)
{
	enum reason reason = steer(context, bpf_ktime_get_ns(), asks_nic);
	__u32 core = bpf_get_smp_processor_id();
	struct counts *own = bpf_map_lookup_elem(&counts, &core);
	if (own && reason < REASONS)
		own->of[reason]++;
	if (is_drop(reason))
		return XDP_DROP;
	return reason == STEERED ? XDP_REDIRECT : XDP_PASS;
}

SEC("xdp")
int redirect(struct xdp_md *context)
{
	return run(context, 0);
}

SEC("xdp")
int redirect_nic(struct xdp_md *context)
{
	return run(context, 1);
}
