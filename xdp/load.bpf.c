/* The load generator's programs in the kernel.
 *
 *   send            run by BPF_PROG_RUN over live frames: makes each request when it is due
 *   count_taken     a raw tracepoint: how many of them the interface took
 *   count_replies   on the generator's interface: judges, times and counts what comes back
 *   sink, reflect   on the far end: the check of the meter, and the limit of the rig
 *   pass            lets a veth's peer transmit
 *
 * Settings are in `.rodata.*`, written before loading and frozen, so that the verifier drops the branches that a
 * setting rules out. Everything shared with user space is made of 64-bit words; sys/src/live_frames lays out the same
 * ones. Nothing here decides what to send, when to stop or what a result means. README.md has the verifier's side.
 */
#include "load.h"

char _license[] SEC("license") = "Dual MIT/GPL";

#define VARIANTS_MAX 64
/* ---- send ------------------------------------------------------------------------------------------------------ */

struct variant {
	__u64 words[NTP_WORDS];
	__u64 sum;
};

const volatile struct {
	/* The template up to the UDP checksum. */
	__u64 head[8];
	__u64 is_ip6;
	__u64 key;
	/* One's complement sums of what never changes, without the low 32 bits of the source address. */
	__u64 ip_sum;
	__u64 udp_sum;
	/* The low 32 bits of the first client's address, in the order of this machine. */
	__u64 address;
	__u64 clients;
	__u64 variants;
	struct variant variant[VARIANTS_MAX];
} send_setting SEC(".rodata.send");

/* One thread at a time runs `send` over this, and user space writes it only between its runs: no atomics. */
struct {
	__u64 due_ns;
	__u64 due_fraction;
	__u64 interval;
	__u64 left;
	__u64 client;
	__u64 variant;
	__u64 now_ns;
	__u64 unread;
	__u64 core;
	__u64 made;
	__u64 settled;
	__u64 taken;
	__u64 idle;
	__u64 lag_max_ns;
	__u64 lag[LAG_BUCKETS];
} send_state SEC(".data.send");

static __always_inline __u64 clock_for(__u64 due)
{
	__u64 now = send_state.now_ns;
	if ((__s64)(now - due) > FAR_BEHIND_NS && send_state.unread < UNREAD_MAX) {
		send_state.unread++;
		return now;
	}
	send_state.unread = 0;
	return send_state.now_ns = bpf_ktime_get_ns();
}

static __always_inline __u64 next_of(__u64 *index, __u64 count)
{
	__u64 now = *index;
	*index = now + 1 < count ? now + 1 : 0;
	return now;
}

static __always_inline void advance(__u64 due, __u64 lag)
{
	__u64 fraction = send_state.due_fraction + (__u32)send_state.interval;
	send_state.due_ns = due + (send_state.interval >> 32) + (fraction >> 32);
	send_state.due_fraction = (__u32)fraction;
	send_state.left--;
	send_state.made++;
	send_state.core = bpf_get_smp_processor_id();
	if (lag > send_state.lag_max_ns)
		send_state.lag_max_ns = lag;
	__u32 bucket = log2_of(lag);
	if (bucket < LAG_BUCKETS)
		send_state.lag[bucket]++;
}

/* The page may hold what an earlier run made of it, or a reflector: every octet is written, none is read. */
static __always_inline int make_request(void *data, void *end, __u64 due)
{
	const int ip6 = send_setting.is_ip6 != 0;
	struct udphdr *udp = data + ETH_HLEN + (ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	__u64 *ntp = (void *)(udp + 1);
	if ((void *)ntp + NTP_LENGTH > end)
		return 0;
	__u64 hash = keyed_hash(due & DUE_MASK, send_setting.key);
	__u64 cookie = bpf_cpu_to_be64(cookie_of(due, hash));
	__u32 source = bpf_htonl(send_setting.address + next_of(&send_state.client, send_setting.clients));
	__u16 port = bpf_htons(1024 + ((hash & 0xFFFF) * (65536 - 1024) >> 16));
	const volatile struct variant *variant =
		&send_setting.variant[next_of(&send_state.variant, send_setting.variants) % VARIANTS_MAX];

	__u64 *words = data;
#pragma unroll
	for (int word = 0; word < 5; word++)
		words[word] = send_setting.head[word];
	if (ip6) {
		words[5] = send_setting.head[5];
		words[6] = send_setting.head[6];
		*(__u32 *)&words[7] = send_setting.head[7];
		struct ipv6hdr *ip = data + ETH_HLEN;
		ip->saddr.in6_u.u6_addr32[3] = source;
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		ip->saddr = source;
		ip->check = fold(send_setting.ip_sum + source);
	}
#pragma unroll
	for (int word = 0; word < NTP_WORDS; word++)
		ntp[word] = variant->words[word];
	ntp[NTP_WORDS] = cookie;
	udp->source = port;
	__u16 check = fold(send_setting.udp_sum + variant->sum + source + port + (cookie >> 32) + (__u32)cookie);
	udp->check = check ? check : 0xFFFF;
	return 1;
}

SEC("xdp")
int send(struct xdp_md *context)
{
	__u64 due = send_state.due_ns;
	if (send_state.left == 0)
		return XDP_DROP;
	__s64 lag = clock_for(due) - due;
	if (lag < 0) {
		send_state.idle++;
		return XDP_DROP;
	}
	if (!make_request((void *)(long)context->data, (void *)(long)context->data_end, due))
		return XDP_ABORTED;
	advance(due, lag);
	return XDP_TX;
}

/* A queue of frames was handed to a driver. Between the first request of a batch and the flush at its end nothing but
 * `send` redirects on its core, so a queue there is ours as long as requests are unsettled. */
SEC("raw_tp/xdp_devmap_xmit")
int count_taken(struct bpf_raw_tracepoint_args *context)
{
	if (send_state.made == send_state.settled || send_state.core != bpf_get_smp_processor_id())
		return 0;
	send_state.taken += (__u32)context->args[2];
	send_state.settled += (__u32)context->args[2] + (__u32)context->args[3];
	return 0;
}

/* ---- count_replies --------------------------------------------------------------------------------------------- */

#define SEEN (1 << 22)

const volatile struct {
	/* The server's address in the order of the network; IPv4's in the low half of the first word. */
	__u64 address[2];
	__u64 is_ip6;
	__u64 port;
	__u64 key;
	__u64 echo;
	/* Which modes and versions a reply may have: a bit each. */
	__u64 modes;
	__u64 versions;
	/* One valid reply in so many goes on to user space; 0: none. */
	__u64 sample;
	/* 2^shift ns are no longer than the interval, so that requests near each other have places of their own. */
	__u64 seen_shift;
} count_setting SEC(".rodata.count");

struct reply_counts {
	__u64 of[KINDS];
	__u64 sampled;
	__u64 since_sample;
	__u64 latency[LATENCY_BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reply_counts);
} replies SEC(".maps");

/* The last cookie answered at each place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEEN);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

/* A cookie of ours that wasn't answered before; its latency in `ns`. */
static __always_inline enum kind origin_of(__u64 cookie, __u64 *ns)
{
	__u64 due = cookie >> 24;
	if (cookie_of(due, keyed_hash(due, count_setting.key)) != cookie)
		return ORIGIN;
	*ns = (bpf_ktime_get_ns() - due) & DUE_MASK;
	if (*ns >> LATENCY_BITS)
		return ORIGIN;
	__u32 place = (due >> count_setting.seen_shift) % SEEN;
	__u64 *last = bpf_map_lookup_elem(&seen, &place);
	if (last && __sync_lock_test_and_set(last, cookie) == cookie)
		return DUPLICATE;
	return VALID;
}

static __always_inline enum kind judge(struct udphdr *udp, void *end, __u64 *ns)
{
	__u16 length = bpf_ntohs(udp->len);
	__u64 *ntp = (void *)(udp + 1);
	if (length > sizeof(*udp) + NTP_LENGTH)
		return LONGER;
	if (length < sizeof(*udp) + NTP_LENGTH || (void *)ntp + NTP_LENGTH > end)
		return SHORTER;
	enum kind origin = origin_of(bpf_be64_to_cpu(count_setting.echo ? ntp[5] : ntp[3]), ns);
	if (origin != VALID || count_setting.echo)
		return origin;
	return header_of(ntp, count_setting.modes, count_setting.versions);
}

static __always_inline struct udphdr *reply_of(void *data, void *end)
{
	struct udphdr *udp;
	if (count_setting.is_ip6) {
		__u64 *source = data + ETH_HLEN + 8;
		udp = udp_of_ip6(data, end);
		if (!udp || source[0] != count_setting.address[0] || source[1] != count_setting.address[1])
			return 0;
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		udp = udp_of_ip4(data, end);
		if (!udp || ip->saddr != (__u32)count_setting.address[0])
			return 0;
	}
	return udp->source == (__u16)count_setting.port ? udp : 0;
}

SEC("xdp")
int count_replies(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct udphdr *udp = reply_of((void *)(long)context->data, end);
	__u32 first = 0;
	struct reply_counts *counts = bpf_map_lookup_elem(&replies, &first);
	if (!udp || !counts)
		return XDP_PASS;
	__u64 ns = 0;
	enum kind kind = judge(udp, end, &ns);
	counts->of[kind % KINDS]++;
	if (kind != VALID && kind != UNSYNCHRONISED)
		return XDP_DROP;
	__u32 bucket = latency_bucket(ns);
	/* The compiler knows the bound and would leave out the comparison, which the verifier wants to see. */
	barrier_var(bucket);
	if (bucket < LATENCY_BUCKETS)
		counts->latency[bucket]++;
	if (kind != VALID || count_setting.sample == 0 || ++counts->since_sample < count_setting.sample)
		return XDP_DROP;
	counts->since_sample = 0;
	counts->sampled++;
	return XDP_PASS;
}

/* ---- sink, reflect, pass --------------------------------------------------------------------------------------- */

const volatile struct {
	__u64 port;
} end_setting SEC(".rodata.end");

struct end_counts {
	__u64 frames;
	__u64 octets;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct end_counts);
} arrivals SEC(".maps");

/* Counts a datagram that is for the port; its header. `number` becomes how many there were before it on this core. */
static __always_inline struct udphdr *arrival(struct xdp_md *context, __u64 *number)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct udphdr *udp = udp_of_ip4(data, end);
	if (!udp)
		udp = udp_of_ip6(data, end);
	if (!udp || udp->dest != (__u16)end_setting.port)
		return 0;
	__u32 first = 0;
	struct end_counts *counts = bpf_map_lookup_elem(&arrivals, &first);
	if (counts) {
		*number = counts->frames++;
		counts->octets += end - data;
	}
	return udp;
}

SEC("xdp")
int sink(struct xdp_md *context)
{
	/* The first goes on: a generator asks once, the plain way, before it sends. */
	__u64 number = 0;
	return arrival(context, &number) && number ? XDP_DROP : XDP_PASS;
}

#define SWAP(a, b) do { __typeof__(a) kept = a; a = b; b = kept; } while (0)

SEC("xdp")
int reflect(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u64 number;
	struct udphdr *udp = arrival(context, &number);
	/* The verifier knows nothing of this frame's length but what is compared here. */
	if (!udp || data + ETH_HLEN + sizeof(struct iphdr) + sizeof(*udp) > end)
		return XDP_PASS;
	__u16 *halves = data;
	SWAP(halves[0], halves[3]);
	SWAP(halves[1], halves[4]);
	SWAP(halves[2], halves[5]);
	SWAP(udp->source, udp->dest);
	if (halves[6] == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + ETH_HLEN;
		SWAP(ip->saddr, ip->daddr);
	} else if (data + ETH_HLEN + sizeof(struct ipv6hdr) <= end) {
		__u64 *addresses = data + ETH_HLEN + 8;
		SWAP(addresses[0], addresses[2]);
		SWAP(addresses[1], addresses[3]);
	}
	return XDP_TX;
}

SEC("xdp")
int pass(struct xdp_md *context)
{
	return XDP_PASS;
}
