/* Which datagrams for us are dropped in the driver, before they cost anybody anything more: those that nothing answers,
 * those of denied sources, those far over their address's limit, and, while the server has more than it can answer, those
 * of addresses that it doesn't know. Sources are looked up while the server refuses many, or has too many. What the limits
 * are and who is known is written by the server; nothing here writes.
 *
 * Some of what would be dropped goes up all the same, by lottery, to be seen and told there; its metadata says how many it
 * stands for. Nothing is dropped while the settings are off, as they are until the server has written them.
 */

#define MESSAGE_LENGTH_MIN 48
#define VERSION_MAX 4
/* Of the first octet of a message (RFC 5905 section 7.3); NTPv1's clients send mode 0. */
#define MODE_NONE 0
#define MODE_SYMMETRIC_ACTIVE 1
#define MODE_CLIENT 3

/* One in so many of denied sources, and of those over their limit, goes up. Powers of two. */
#define DENIED_PER_SEEN 64
#define LIMITED_PER_SEEN 16

#define WAYS 8
/* core/src/limit: 16 bits of tag, 3 of level, 5 of the last kiss, 40 of the theoretical arrival time. */
#define TAG_SHIFT 48
#define LEVEL_SHIFT 45
#define LEVEL_MASK 7
#define TIME_BITS 40
/* Times are in units of 4,096 ns. */
#define UNIT_SHIFT 12

/* ---- What the server says ---------------------------------------------------------------------------------------- */

/* A cache line: the strangers' bucket and seven entries. */
struct set {
	__u64 ways[WAYS];
};

/* The server's own table, where it lies. The loader makes it as large as is configured, one for all interfaces. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct set);
} table SEC(".maps");

/* Drops what has a level below floor >> 16; of what has this level, as many in 65,536 as its low half says. While the floor
 * is 0 and the worker says that few are refused, nobody is looked up: it refuses them itself. On a line of its own, since a
 * worker writes it while others are read. */
struct floor {
	__u64 floor;
	__u64 few_refused;
	__u64 rest[6];
};

/* Words, each read and written at once; sys/src/driver_limits.rs names their places. */
struct limits {
	/* The hash's key. */
	__u64 key[2];
	/* An address that owes more than the first, in units, is over its limit. Who owes more than the second can't have come
	 * to it: the clock went back or round, and user space mends it. */
	__s64 owed_max;
	__s64 owed_possible;
	/* Sets of the table that are addresses', below 2 to the 32nd. */
	__u64 sets;
	/* Whether anything is dropped here, and whether the lists of sources hold. */
	__u64 on;
	__u64 lists;
	__u64 rest;
	struct floor floors[QUEUES_MAX];
};

/* One for each interface. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limits);
} limits SEC(".maps");

/* What the lists say of a source: sys/src/access_tries.rs has the same numbers. */
enum standing {
	ALLOWED,
	EXEMPT,
	DENIED,
	BOGON,
};

struct prefix4 {
	__u32 length;
	__be32 address;
};

struct prefix6 {
	__u32 length;
	__be32 address[4];
};

/* Prefixes and their standing, one of each for all interfaces. There is room for a list and the one that replaces it. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 65536);
	__type(key, struct prefix4);
	__type(value, __u32);
} sources4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 65536);
	__type(key, struct prefix6);
	__type(value, __u32);
} sources6 SEC(".maps");

/* ---- Who it is --------------------------------------------------------------------------------------------------- */

static __always_inline __u64 rotated(__u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static __always_inline void sip_round(__u64 v[4])
{
	v[0] += v[1];
	v[1] = rotated(v[1], 13) ^ v[0];
	v[0] = rotated(v[0], 32);
	v[2] += v[3];
	v[3] = rotated(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotated(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotated(v[1], 17) ^ v[2];
	v[2] = rotated(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein 2012) of a word's eight octets, low first, with `kind` in the unused octets of the last
 * block: with kind 0 it is that of the octets alone. core/src/limit/hash.rs computes the same. */
static __always_inline __u64 hash_of(const __u64 key[2], __u64 word, __u64 kind)
{
	__u64 last = 8ULL << 56 | kind;
	__u64 v[4] = {
		key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D,
		key[0] ^ 0x6C7967656E657261, key[1] ^ 0x7465646279746573,
	};
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xFF;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* IPv4: the whole address; IPv6: the upper half, which is a site's. */
static __always_inline __u64 hash_of_source(const struct limits *own, const struct source *source)
{
	__u64 first = bpf_ntohl(source->address[0]);
	__u64 key[2] = { own->key[0], own->key[1] };
	if (source->version == 4)
		return hash_of(key, first, 0);
	return hash_of(key, first << 32 | bpf_ntohl(source->address[1]), 1);
}

/* The address's entry; 0: there is none. */
static __always_inline __u64 entry_of(const struct limits *own, const struct source *source)
{
	__u64 hash = hash_of_source(own, source);
	__u32 place = ((hash & 0xFFFFFFFF) * own->sets) >> 32;
	const volatile struct set *set = bpf_map_lookup_elem(&table, &place);
	if (!set)
		return 0;
	__u64 tag = hash >> TAG_SHIFT;
	if (!tag)
		tag = 1;
	__u64 found = 0;
#pragma unroll
	for (int way = WAYS - 1; way > 0; way--) {
		__u64 entry = set->ways[way];
		if (entry >> TAG_SHIFT == tag)
			found = entry;
	}
	return found;
}

static __always_inline enum standing standing_of(const struct source *source)
{
	const __u32 *found;
	if (source->version == 4) {
		struct prefix4 whole = { .length = 32, .address = source->address[0] };
		found = bpf_map_lookup_elem(&sources4, &whole);
	} else {
		struct prefix6 whole = { .length = 128 };
#pragma unroll
		for (int word = 0; word < 4; word++)
			whole.address[word] = source->address[word];
		found = bpf_map_lookup_elem(&sources6, &whole);
	}
	return found ? *found : ALLOWED;
}

/* ---- What becomes of it ------------------------------------------------------------------------------------------ */

/* What no server answers, whoever asks: core/src/wire/request.rs drops all of this, too. */
static __always_inline enum reason judge_message(const struct frame *frame)
{
	const __u8 *first = frame->at;
	if (frame->carried < MESSAGE_LENGTH_MIN || (void *)(first + 1) > frame->end)
		return DROPPED_SHORT;
	__u8 version = *first >> 3 & 7;
	__u8 mode = *first & 7;
	if (version == 0 || version > VERSION_MAX)
		return DROPPED_VERSION;
	if (mode == MODE_CLIENT || mode == MODE_SYMMETRIC_ACTIVE || (mode == MODE_NONE && version == 1))
		return STEERED;
	return DROPPED_MODE;
}

/* Whether the address has used up what it may ask, and owes more than can be a matter of who read the clock when. */
static __always_inline int is_over_limit(const struct limits *own, __u64 entry, __u64 now_ns)
{
	__u64 since = entry - (now_ns >> UNIT_SHIFT);
	/* The difference of two times of 40 bits, which have no order but this. */
	__s64 owed = (__s64)(since << (64 - TIME_BITS)) >> (64 - TIME_BITS);
	return owed > own->owed_max && owed <= own->owed_possible;
}

/* Whether it is left out by lot: all are but one in `per`, a power of two. */
static __always_inline int is_unseen(__u32 per)
{
	return (bpf_get_prandom_u32() & (per - 1)) != 0;
}

/* Whether its source may matter. */
static __always_inline int is_looked_up(const struct limits *own, __u32 queue)
{
	return queue >= QUEUES_MAX || own->floors[queue].floor || !own->floors[queue].few_refused;
}

static __always_inline int is_below_floor(const struct limits *own, __u32 queue, __u32 level)
{
	if (queue >= QUEUES_MAX)
		return 0;
	__u64 floor = own->floors[queue].floor;
	return floor && (level << 16 | (bpf_get_prandom_u32() & 0xFFFF)) < floor;
}

/* STEERED, or why it is dropped; `weight`: of how many it was drawn. */
static __always_inline enum reason judge(const struct frame *frame, __u32 queue, __u64 now_ns, __u16 *weight)
{
	__u32 first = 0;
	const struct limits *own = bpf_map_lookup_elem(&limits, &first);
	if (!own || !own->on)
		return STEERED;
	enum reason reason = judge_message(frame);
	if (reason != STEERED || !is_looked_up(own, queue))
		return reason;
	enum standing standing = own->lists ? standing_of(&frame->source) : ALLOWED;
	if (standing == EXEMPT)
		return STEERED;
	__u32 level = 0;
	if (standing == DENIED || standing == BOGON) {
		reason = standing == DENIED ? DROPPED_DENIED : DROPPED_BOGON;
		if (is_unseen(DENIED_PER_SEEN))
			return reason;
		*weight = DENIED_PER_SEEN;
	} else {
		__u64 entry = entry_of(own, &frame->source);
		level = entry >> LEVEL_SHIFT & LEVEL_MASK;
		reason = DROPPED_OVERLOAD;
		if (entry && is_over_limit(own, entry, now_ns)) {
			if (is_unseen(LIMITED_PER_SEEN))
				return DROPPED_LIMITED;
			*weight = LIMITED_PER_SEEN;
		}
	}
	return is_below_floor(own, queue, level) ? reason : STEERED;
}
