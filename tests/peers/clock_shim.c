/* Takes the clock out of a client's hands, for ntpd-rs, which gives up when its clock calls are refused.
 *
 * Loaded with LD_PRELOAD. Setting the clock does nothing and succeeds; an adjustment becomes a question: with no mode
 * bits set the kernel changes nothing and reports its state, which is what the client wants to read back anyway.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

int clock_adjtime(clockid_t clock, struct timex *state)
{
	state->modes = 0;
	return (int)syscall(SYS_clock_adjtime, clock, state);
}

int adjtimex(struct timex *state)
{
	return clock_adjtime(CLOCK_REALTIME, state);
}

int ntp_adjtime(struct timex *state)
{
	return clock_adjtime(CLOCK_REALTIME, state);
}

int clock_settime(clockid_t clock, const struct timespec *time)
{
	(void)clock;
	(void)time;
	return 0;
}

int settimeofday(const struct timeval *time, const struct timezone *zone)
{
	(void)time;
	(void)zone;
	return 0;
}
