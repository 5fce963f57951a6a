/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A reference's seconds: instants of CLOCK_MONOTONIC_RAW, which nobody steers, at a rate of the reference's own, and a timer
 * that is there when one begins.
 *
 * Timers go by CLOCK_MONOTONIC, whose rate is steered by up to a thousandth: the timer aims at a bit less than what is left, again
 * and again, and what is left of the last aim is spun.
 */
#ifndef MASER_SECONDS_H
#define MASER_SECONDS_H

#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/limits.h>
#include <linux/math64.h>
#include <linux/processor.h>

#define SECONDS_PPB_MAX 100000000
#define SECONDS_SPUN_NS 3000
/* Of what is left, one part in so many is left for the next aim. */
#define SECONDS_AIM_EARLY 500

struct seconds {
	/* Of CLOCK_MONOTONIC_RAW: where the second with number 0 begins. */
	u64 first_raw_ns;
	s64 ppb;
	/* By so much all of them are late. */
	s64 phase_ns;
	/* If it isn't 0, each of them begins twice, the other time so much later. */
	u32 double_ns;
	u64 number;
	bool is_other;
	struct hrtimer timer;
	/* Called where interrupts are off, with the instant at which it was due. */
	void (*begins)(struct seconds *seconds, u64 raw_ns);
};

static inline u64 seconds_raw_of(const struct seconds *s, u64 number)
{
	return s->first_raw_ns + mul_u64_u64_div_u64(number, (u64)NSEC_PER_SEC * NSEC_PER_SEC, NSEC_PER_SEC + s->ppb);
}

static inline u64 seconds_next(const struct seconds *s)
{
	return seconds_raw_of(s, s->number) + s->phase_ns + (s->is_other ? s->double_ns : 0);
}

static inline ktime_t seconds_aim(u64 next_raw_ns)
{
	s64 left_ns = max_t(s64, next_raw_ns - ktime_get_raw_ns(), 0);

	return ktime_add_ns(ktime_get(), left_ns - left_ns / SECONDS_AIM_EARLY);
}

static enum hrtimer_restart seconds_timer(struct hrtimer *timer)
{
	struct seconds *s = container_of(timer, struct seconds, timer);
	u64 due = seconds_next(s);

	if ((s64)(due - ktime_get_raw_ns()) <= SECONDS_SPUN_NS) {
		while ((s64)(due - ktime_get_raw_ns()) > 0)
			cpu_relax();
		s->is_other = !s->is_other && s->double_ns;
		if (!s->is_other)
			s->number++;
		s->begins(s, due);
	}
	hrtimer_set_expires(timer, seconds_aim(seconds_next(s)));
	return HRTIMER_RESTART;
}

/* Once, before the others. */
static inline void seconds_init(struct seconds *s, void (*begins)(struct seconds *, u64))
{
	s->first_raw_ns = ktime_get_raw_ns();
	s->begins = begins;
	hrtimer_init(&s->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	s->timer.function = seconds_timer;
}

static inline void seconds_stop(struct seconds *s)
{
	hrtimer_cancel(&s->timer);
}

/* Goes on with the first second that is still to come. */
static inline void seconds_start(struct seconds *s)
{
	s64 since = ktime_get_raw_ns() - s->first_raw_ns - s->phase_ns;

	s->number = since < 0 ? 0 : mul_u64_u64_div_u64(since, NSEC_PER_SEC + s->ppb, (u64)NSEC_PER_SEC * NSEC_PER_SEC) + 1;
	s->is_other = false;
	hrtimer_start(&s->timer, seconds_aim(seconds_next(s)), HRTIMER_MODE_ABS_HARD);
}

/* Another rate, from the second on that began last. The timer must be stopped. */
static inline void seconds_set_rate(struct seconds *s, s64 ppb)
{
	s64 since = ktime_get_raw_ns() - s->first_raw_ns;

	if (since > 0)
		s->first_raw_ns = seconds_raw_of(s, mul_u64_u64_div_u64(since, NSEC_PER_SEC + s->ppb, (u64)NSEC_PER_SEC * NSEC_PER_SEC));
	s->ppb = ppb;
}

#endif
