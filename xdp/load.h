/* What the load generator's programs share: the cookie, checksums, what a UDP datagram and a reply are.
 *
 * Nothing here keeps anything: settings, state and counts are each program's own.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NTP_LENGTH 48
/* What stands before the transmit timestamp: five words of a variant. */
#define NTP_WORDS 5
#define LAG_BUCKETS 40
/* A due time keeps its low 40 bits in a cookie: it is unambiguous for 18 minutes. */
#define DUE_MASK ((1ULL << 40) - 1)

/* So far behind, the clock's last reading is good enough for a few more requests: it proves them due, and what it
 * takes off their lag is below a quarter of it. */
#define FAR_BEHIND_NS 16384
#define UNREAD_MAX 7

/* ---- The cookie: a request's transmit timestamp ---------------------------------------------------------------- */

static __always_inline __u64 keyed_hash(__u64 due, __u64 key)
{
	__u64 x = (due ^ key) * 0x9E3779B97F4A7C15ULL;
	x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93ULL;
	return x ^ (x >> 32);
}

/* When the request was due, and the top 24 bits of the hash of that: who echoes it needn't be asked anything else. */
static __always_inline __u64 cookie_of(__u64 due, __u64 hash)
{
	return due << 24 | hash >> 40;
}

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 log = 0;
	if (value >> 32) { value >>= 32; log += 32; }
	if (value >> 16) { value >>= 16; log += 16; }
	if (value >> 8) { value >>= 8; log += 8; }
	if (value >> 4) { value >>= 4; log += 4; }
	if (value >> 2) { value >>= 2; log += 2; }
	return log + (value >> 1);
}

/* A one's complement sum of up to 2^16 words, as a checksum. */
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum >> 32) + (__u32)sum;
	sum = (sum >> 16) + (sum & 0xFFFF);
	sum = (sum >> 16) + (sum & 0xFFFF);
	sum = (sum >> 16) + (sum & 0xFFFF);
	return ~sum;
}

static __always_inline struct udphdr *udp_of_ip4(void *data, void *end)
{
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > end || *(__be16 *)(data + 12) != bpf_htons(ETH_P_IP))
		return 0;
	int plain = *(__u8 *)ip == 0x45 && ip->protocol == IPPROTO_UDP && !(ip->frag_off & bpf_htons(0x3FFF));
	return plain ? udp : 0;
}

static __always_inline struct udphdr *udp_of_ip6(void *data, void *end)
{
	struct ipv6hdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > end || *(__be16 *)(data + 12) != bpf_htons(ETH_P_IPV6))
		return 0;
	return ip->nexthdr == IPPROTO_UDP ? udp : 0;
}

/* ---- Replies -------------------------------------------------------------------------------------------------- */

/* What a reply is counted as: the first of these that holds. sys/src/live_frames/replies.rs has the same order. */
enum kind {
	LONGER, SHORTER, ORIGIN, DUPLICATE, MODE, VERSION,
	KISS_RATE, KISS_DENY, KISS_RSTR, KISS_OTHER, UNSYNCHRONISED, STRATUM, ORDER, VALID, KINDS = 16
};

/* 32 sub-buckets an octave, so that a bucket is within 1/32 of its values; 2^34 ns are 17 s. */
#define SUB_BITS 5
#define LATENCY_BITS 34
#define LATENCY_BUCKETS ((LATENCY_BITS - SUB_BITS + 1) << SUB_BITS)

static __always_inline __u32 latency_bucket(__u64 ns)
{
	if (ns < 1 << SUB_BITS)
		return ns;
	__u32 octave = log2_of(ns) - SUB_BITS;
	return (octave << SUB_BITS) + (ns >> octave);
}

static __always_inline enum kind kiss_of(__u32 code)
{
	switch (bpf_ntohl(code)) {
	case 0x52415445: return KISS_RATE;
	case 0x44454E59: return KISS_DENY;
	case 0x52535452: return KISS_RSTR;
	default: return KISS_OTHER;
	}
}

/* Stratum 0 without a code is how a server without a source of time answers. */
static __always_inline enum kind header_of(const __u64 *ntp, __u64 modes, __u64 versions)
{
	const __u8 *octets = (const __u8 *)ntp;
	__u8 first = octets[0], stratum = octets[1];
	__u32 reference = *(const __u32 *)(octets + 12);
	if (!(modes >> (first & 7) & 1))
		return MODE;
	if (!(versions >> (first >> 3 & 7) & 1))
		return VERSION;
	if (stratum == 0 && reference != 0)
		return kiss_of(reference);
	if (stratum == 0 || first >> 6 == 3)
		return UNSYNCHRONISED;
	if (stratum > 15)
		return STRATUM;
	if ((__s64)(bpf_be64_to_cpu(ntp[5]) - bpf_be64_to_cpu(ntp[4])) < 0)
		return ORDER;
	return VALID;
}
