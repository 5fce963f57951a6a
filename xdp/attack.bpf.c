/* The load generator's programs for a server under attack: two parts side by side, honest clients and a flood.
 *
 *   send_parts         run by BPF_PROG_RUN over live frames: makes each part's requests when they are due
 *   count_taken_parts  a raw tracepoint: how many of each part the interface took
 *   count_parts        on the generator's interface: judges, times and counts what comes back, by part and client
 *
 * As load.bpf.c has it: settings in `.rodata.*`, all that is shared in 64-bit words, which sys/src/live_frames/attack
 * lays out the same. Part 0 is the honest one. A reply belongs to the flood unless it is for an honest client's address, so
 * that what answers a probe without a cookie is known, too.
 */
#include "load.h"

char _license[] SEC("license") = "Dual MIT/GPL";

#define PARTS 2
#define VARIANTS_MAX 64
/* A datagram that fits Ethernet's 1500 octets over IPv6, in whole words. */
#define WORDS_MAX 180
/* A bit for each frame that was made and not settled: devmap queues hold 16. */
#define PENDING_MAX 64

/* ---- send_parts ------------------------------------------------------------------------------------------------ */

struct variant {
	__u64 words[NTP_WORDS];
	/* What stands behind the transmit timestamp; then come octets of chance. */
	__u64 tail;
	/* Octets of the UDP payload. */
	__u64 length;
	/* Of the words before the timestamp. */
	__u64 sum;
};

struct part_setting {
	/* The headers of a request; lengths, checksums, source and port are filled in. */
	__u64 head[8];
	/* One's complement sums of what never changes: neither lengths nor the word that tells clients apart. */
	__u64 ip_sum;
	__u64 udp_sum;
	/* That word of the first client, in the order of this machine, and how many clients follow it. */
	__u64 first;
	__u64 clients;
	/* Clients come in turn, or as this many rows of `sources` say. */
	__u64 rows;
	__u64 variants;
	struct variant variant[VARIANTS_MAX];
};

const volatile struct {
	__u64 is_ip6;
	__u64 key;
	/* Clients of the flood whose requests are counted one by one. */
	__u64 counted;
	struct part_setting part[PARTS];
} parts_setting SEC(".rodata.parts");

struct part_state {
	__u64 due_ns;
	__u64 due_fraction;
	__u64 interval;
	__u64 left;
	__u64 client;
	/* Clients that send their bursts at a time: the first of them, how many, rounds done, and rounds to do. */
	__u64 cohort_first;
	__u64 cohort;
	__u64 round;
	__u64 rounds;
	__u64 variant;
	__u64 made;
	__u64 taken;
	__u64 octets;
	__u64 lag_max_ns;
	__u64 lag[LAG_BUCKETS];
};

/* One thread at a time runs `send_parts` over this, and user space writes it only between its runs: no atomics. */
struct {
	__u64 now_ns;
	__u64 unread;
	__u64 core;
	__u64 idle;
	/* Frames made and not settled, and whose they are: bit n is the part of the nth. */
	__u64 pending;
	__u64 parts;
	struct part_state part[PARTS];
} parts_state SEC(".data.parts");

/* Rows of clients, one as probable as the other: the low half is the first, the high half how many follow, of whom each is as
 * probable. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sources SEC(".maps");

/* Requests of each client of the flood. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} asked SEC(".maps");

static __always_inline __u64 clock_for(__u64 due)
{
	__u64 now = parts_state.now_ns;
	if ((__s64)(now - due) > FAR_BEHIND_NS && parts_state.unread < UNREAD_MAX) {
		parts_state.unread++;
		return now;
	}
	parts_state.unread = 0;
	return parts_state.now_ns = bpf_ktime_get_ns();
}

static __always_inline __u64 part_key(__u64 key, __u32 part)
{
	return key + part;
}

/* In turn; at first each cohort so many times, then the next. */
static __always_inline __u64 in_turn(struct part_state *state, __u64 clients)
{
	__u64 now = state->client, next = now + 1;
	if (next == state->cohort_first + state->cohort || next >= clients) {
		if (++state->round < state->rounds) {
			next = state->cohort_first;
		} else {
			state->round = 0;
			if (next >= clients) {
				next = 0;
				state->rounds = 1;
			}
			state->cohort_first = next;
		}
	}
	state->client = next;
	return now;
}

static __always_inline __u64 client_of(struct part_state *state, const volatile struct part_setting *part, __u64 hash)
{
	if (part->rows == 0)
		return in_turn(state, part->clients);
	__u64 chance = hash * 0x9E3779B97F4A7C15ULL;
	__u32 row = (chance & 0xFFFF) * part->rows >> 16;
	__u64 *source = bpf_map_lookup_elem(&sources, &row);
	if (!source)
		return 0;
	return (__u32)*source + ((chance >> 32) * (*source >> 32) >> 32);
}

struct payload {
	struct xdp_md *context;
	const volatile struct variant *variant;
	__u64 headers;
	__u64 cookie;
	__u64 chance;
	__u64 sum;
};

/* A word of a payload that isn't a header alone, as `bpf_loop` asks for it: a loop of its own would be as many paths to the
 * verifier as it has turns. */
static long write_word(__u32 word, struct payload *payload)
{
	void *data = (void *)(long)payload->context->data, *end = (void *)(long)payload->context->data_end;
	const volatile struct variant *variant = payload->variant;
	if (word >= WORDS_MAX)
		return 1;
	__u64 *ntp = data + payload->headers + word * 8, value;
	if (payload->headers > ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct udphdr) || (void *)(ntp + 1) > end)
		return 1;
	if (word < NTP_WORDS)
		value = variant->words[word];
	else if (word == NTP_WORDS)
		value = payload->cookie;
	else if (word == NTP_WORDS + 1)
		value = variant->tail;
	else
		value = payload->chance = payload->chance * 0xD6E8FEB86659FD93ULL + 0x9E3779B97F4A7C15ULL;
	__u64 rest = variant->length - word * 8;
	if (rest < 8)
		value &= (1ULL << (rest * 8 & 63)) - 1;
	*ntp = value;
	payload->sum += (value >> 32) + (__u32)value;
	return 0;
}

static __always_inline int make_request(struct xdp_md *context, __u32 number, struct part_state *state, __u64 due)
{
	const int ip6 = parts_setting.is_ip6 != 0;
	const volatile struct part_setting *part = &parts_setting.part[number];
	const __u64 headers = ETH_HLEN + (ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(struct udphdr);
	__u64 at = state->variant;
	state->variant = at + 1 < part->variants ? at + 1 : 0;
	const volatile struct variant *variant = &part->variant[at % VARIANTS_MAX];
	__u64 length = variant->length;
	/* Room for whole words; what is too much is taken off again. */
	__u64 room = length <= NTP_LENGTH ? NTP_LENGTH : (length + 7) & ~7ULL;
	if (room > NTP_LENGTH && bpf_xdp_adjust_tail(context, (int)(room - NTP_LENGTH)))
		return 0;
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct udphdr *udp = data + headers - sizeof(*udp);
	__u64 *ntp = data + headers;
	if ((void *)ntp + NTP_LENGTH > end)
		return 0;
	__u64 hash = keyed_hash(due & DUE_MASK, part_key(parts_setting.key, number));
	__u64 cookie = bpf_cpu_to_be64(cookie_of(due, hash));
	__u64 client = client_of(state, part, hash);
	__u32 source = bpf_htonl(part->first + client);
	__u16 port = bpf_htons(1024 + ((hash & 0xFFFF) * (65536 - 1024) >> 16));
	__u16 udp_length = bpf_htons(sizeof(*udp) + length);
	__u64 sum;

	__u64 *words = data;
#pragma unroll
	for (int word = 0; word < 5; word++)
		words[word] = part->head[word];
	if (ip6) {
		words[5] = part->head[5];
		words[6] = part->head[6];
		*(__u32 *)&words[7] = part->head[7];
		struct ipv6hdr *ip = data + ETH_HLEN;
		ip->payload_len = udp_length;
		/* A client is a /64. */
		ip->saddr.in6_u.u6_addr32[1] = source;
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		ip->tot_len = bpf_htons(sizeof(*ip) + sizeof(*udp) + length);
		ip->saddr = source;
		ip->check = fold(part->ip_sum + source + ip->tot_len);
	}
	if (length == NTP_LENGTH) {
#pragma unroll
		for (int word = 0; word < NTP_WORDS; word++)
			ntp[word] = variant->words[word];
		ntp[NTP_WORDS] = cookie;
		sum = variant->sum + (cookie >> 32) + (__u32)cookie;
	} else {
		struct payload payload = {
			.context = context, .variant = variant, .headers = headers, .cookie = cookie, .chance = hash,
		};
		bpf_loop((length + 7) / 8, write_word, &payload, 0);
		sum = payload.sum;
	}
	udp->source = port;
	udp->len = udp_length;
	__u16 check = fold(part->udp_sum + sum + source + port + 2 * (__u64)udp_length);
	udp->check = check ? check : 0xFFFF;
	if (room > length && bpf_xdp_adjust_tail(context, -(int)(room - length)))
		return 0;
	if (number == 1 && client < parts_setting.counted) {
		__u32 index = client;
		__u64 *count = bpf_map_lookup_elem(&asked, &index);
		if (count)
			++*count;
	}
	state->octets += length;
	return 1;
}

static __always_inline void advance(struct part_state *state, __u32 number, __u64 due, __u64 lag)
{
	__u64 fraction = state->due_fraction + (__u32)state->interval;
	state->due_ns = due + (state->interval >> 32) + (fraction >> 32);
	state->due_fraction = (__u32)fraction;
	state->left--;
	state->made++;
	parts_state.core = bpf_get_smp_processor_id();
	parts_state.parts |= (__u64)number << (parts_state.pending % PENDING_MAX);
	parts_state.pending++;
	if (lag > state->lag_max_ns)
		state->lag_max_ns = lag;
	__u32 bucket = log2_of(lag);
	if (bucket < LAG_BUCKETS)
		state->lag[bucket]++;
}

/* The part whose request is due first. */
static __always_inline __u32 next_part(void)
{
	struct part_state *honest = &parts_state.part[0], *flood = &parts_state.part[1];
	if (flood->left == 0)
		return 0;
	return honest->left == 0 || (__s64)(flood->due_ns - honest->due_ns) < 0;
}

static __always_inline int send_of(struct xdp_md *context, __u32 number)
{
	struct part_state *state = &parts_state.part[number];
	__u64 due = state->due_ns;
	if (state->left == 0)
		return XDP_DROP;
	__s64 lag = clock_for(due) - due;
	if (lag < 0) {
		parts_state.idle++;
		return XDP_DROP;
	}
	if (!make_request(context, number, state, due))
		return XDP_ABORTED;
	advance(state, number, due, lag);
	return XDP_TX;
}

SEC("xdp")
int send_parts(struct xdp_md *context)
{
	/* Each with constants of its own. */
	return next_part() ? send_of(context, 1) : send_of(context, 0);
}

static __always_inline __u64 ones_of(__u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555ULL;
	bits = (bits & 0x3333333333333333ULL) + (bits >> 2 & 0x3333333333333333ULL);
	bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
	return bits * 0x0101010101010101ULL >> 56;
}

/* As load.bpf.c's `count_taken`. A driver that is full takes the first frames of a queue and none behind them. */
SEC("raw_tp/xdp_devmap_xmit")
int count_taken_parts(struct bpf_raw_tracepoint_args *context)
{
	__u64 taken = (__u32)context->args[2], all = taken + (__u32)context->args[3];
	if (parts_state.pending == 0 || parts_state.core != bpf_get_smp_processor_id())
		return 0;
	if (all >= PENDING_MAX || all > parts_state.pending)
		return 0;
	__u64 flood = ones_of(parts_state.parts & ((1ULL << taken) - 1));
	parts_state.part[0].taken += taken - flood;
	parts_state.part[1].taken += flood;
	parts_state.parts >>= all;
	parts_state.pending -= all;
	return 0;
}

/* ---- count_parts ----------------------------------------------------------------------------------------------- */

/* Two parts share the ring: a place each, side by side. */
#define SEEN (1 << 22)

const volatile struct {
	/* The server's address in the order of the network; IPv4's in the low half of the first word. */
	__u64 address[2];
	__u64 is_ip6;
	__u64 port;
	__u64 key;
	__u64 modes;
	__u64 versions;
	/* Of each part, as `parts_setting` has them, and the logarithm of its interval. */
	__u64 first[PARTS];
	__u64 clients[PARTS];
	__u64 seen_shift[PARTS];
	/* Clients of the flood whose replies are counted one by one. */
	__u64 counted;
} answers_setting SEC(".rodata.answers");

struct answer_counts {
	__u64 of[KINDS];
	/* UDP payload octets of all of them. */
	__u64 octets;
	__u64 latency[LATENCY_BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PARTS);
	__type(key, __u32);
	__type(value, struct answer_counts);
} answers SEC(".maps");

/* The last cookie answered at each place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEEN);
	__type(key, __u32);
	__type(value, __u64);
} answered_cookies SEC(".maps");

struct client_counts {
	__u64 answered;
	__u64 kissed;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct client_counts);
} by_client SEC(".maps");

/* A cookie of the part's that wasn't answered before; its latency in `ns`. */
static __always_inline enum kind origin_of(__u64 cookie, __u32 part, __u64 *ns)
{
	__u64 due = cookie >> 24;
	if (cookie_of(due, keyed_hash(due, part_key(answers_setting.key, part))) != cookie)
		return ORIGIN;
	*ns = (bpf_ktime_get_ns() - due) & DUE_MASK;
	if (*ns >> LATENCY_BITS)
		return ORIGIN;
	__u32 place = ((due >> answers_setting.seen_shift[part]) * PARTS + part) % SEEN;
	__u64 *last = bpf_map_lookup_elem(&answered_cookies, &place);
	if (last && __sync_lock_test_and_set(last, cookie) == cookie)
		return DUPLICATE;
	return VALID;
}

static __always_inline enum kind judge(struct udphdr *udp, void *end, __u32 part, __u64 *ns)
{
	__u16 length = bpf_ntohs(udp->len);
	__u64 *ntp = (void *)(udp + 1);
	if (length > sizeof(*udp) + NTP_LENGTH)
		return LONGER;
	if (length < sizeof(*udp) + NTP_LENGTH || (void *)ntp + NTP_LENGTH > end)
		return SHORTER;
	enum kind origin = origin_of(bpf_be64_to_cpu(ntp[3]), part, ns);
	return origin == VALID ? header_of(ntp, answers_setting.modes, answers_setting.versions) : origin;
}

/* A reply's datagram, and the word of its destination that tells clients apart, in the order of this machine. */
static __always_inline struct udphdr *answer_of(void *data, void *end, __u32 *client)
{
	struct udphdr *udp;
	if (answers_setting.is_ip6) {
		__u64 *source = data + ETH_HLEN + 8;
		udp = udp_of_ip6(data, end);
		if (!udp || source[0] != answers_setting.address[0] || source[1] != answers_setting.address[1])
			return 0;
		*client = bpf_ntohl(((struct ipv6hdr *)(data + ETH_HLEN))->daddr.in6_u.u6_addr32[1]);
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		udp = udp_of_ip4(data, end);
		if (!udp || ip->saddr != (__u32)answers_setting.address[0])
			return 0;
		*client = bpf_ntohl(ip->daddr);
	}
	return udp->source == (__u16)answers_setting.port ? udp : 0;
}

static __always_inline void count_client(__u32 index, enum kind kind)
{
	struct client_counts *counts = bpf_map_lookup_elem(&by_client, &index);
	if (!counts)
		return;
	if (kind == VALID || kind == UNSYNCHRONISED)
		__sync_fetch_and_add(&counts->answered, 1);
	else if (kind >= KISS_RATE && kind <= KISS_OTHER)
		__sync_fetch_and_add(&counts->kissed, 1);
}

SEC("xdp")
int count_parts(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	__u32 client = 0;
	struct udphdr *udp = answer_of((void *)(long)context->data, end, &client);
	if (!udp)
		return XDP_PASS;
	__u32 part = client - (__u32)answers_setting.first[0] >= answers_setting.clients[0];
	__u32 index = client - (__u32)answers_setting.first[1];
	/* Somebody else's on this machine. */
	if (part && index >= answers_setting.clients[1])
		return XDP_PASS;
	struct answer_counts *counts = bpf_map_lookup_elem(&answers, &part);
	if (!counts)
		return XDP_PASS;
	__u64 ns = 0;
	enum kind kind = part ? judge(udp, end, 1, &ns) : judge(udp, end, 0, &ns);
	counts->of[kind % KINDS]++;
	counts->octets += bpf_ntohs(udp->len) - sizeof(*udp);
	if (part && index < answers_setting.counted)
		count_client(index, kind);
	if (kind != VALID && kind != UNSYNCHRONISED)
		return XDP_DROP;
	__u32 bucket = latency_bucket(ns);
	/* The compiler knows the bound and would leave out the comparison, which the verifier wants to see. */
	barrier_var(bucket);
	if (bucket < LATENCY_BUCKETS)
		counts->latency[bucket]++;
	return XDP_DROP;
}
