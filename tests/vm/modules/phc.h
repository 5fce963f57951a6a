/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The time of a PTP hardware clock: CLOCK_MONOTONIC_RAW at a rate of the clock's own, which its user then adjusts.
 */
#ifndef MASER_PHC_H
#define MASER_PHC_H

#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/spinlock.h>

/* Of adjfine: 2^-16 ppm. */
#define SCALED_PER_UNIT (65536ULL * 1000000)

struct phc {
	spinlock_t lock;
	/* It stood at `at_ns` when CLOCK_MONOTONIC_RAW stood at `at_raw_ns`. */
	u64 at_raw_ns;
	s64 at_ns;
	/* Of its own oscillator; what its user adjusts. */
	s64 ppb;
	s64 scaled_ppm;
	bool is_stopped;
};

/* Nanoseconds when CLOCK_MONOTONIC_RAW stands at `raw_ns`, which may lie a bit before now. With the lock. */
static inline s64 phc_of_locked(const struct phc *phc, u64 raw_ns)
{
	s64 since = raw_ns - phc->at_raw_ns;
	s64 rate = phc->scaled_ppm + div_s64(phc->ppb * 65536, 1000);
	s64 off = mul_u64_u64_div_u64(abs(since), abs(rate), SCALED_PER_UNIT);

	if (phc->is_stopped)
		return phc->at_ns;
	return phc->at_ns + since + ((since < 0) == (rate < 0) ? off : -off);
}

static inline s64 phc_of(struct phc *phc, u64 raw_ns)
{
	unsigned long flags;
	s64 ns;

	spin_lock_irqsave(&phc->lock, flags);
	ns = phc_of_locked(phc, raw_ns);
	spin_unlock_irqrestore(&phc->lock, flags);
	return ns;
}

/* What is changed between these two holds from now on. */
static inline void phc_begin(struct phc *phc, unsigned long *flags)
{
	u64 raw_ns;

	spin_lock_irqsave(&phc->lock, *flags);
	raw_ns = ktime_get_raw_ns();
	phc->at_ns = phc_of_locked(phc, raw_ns);
	phc->at_raw_ns = raw_ns;
}

static inline void phc_end(struct phc *phc, unsigned long flags)
{
	spin_unlock_irqrestore(&phc->lock, flags);
}

#endif
