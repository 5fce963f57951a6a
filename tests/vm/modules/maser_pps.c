// SPDX-License-Identifier: GPL-2.0
/*
 * A PPS source whose seconds nobody can steer: they are counted on CLOCK_MONOTONIC_RAW, at a rate and from an instant that are set.
 *
 * Proves: what a program makes of a PPS device, from exact stamps on an independent reference, and of a device that falls silent,
 * loses or doubles pulses, and goes.
 * Doesn't prove: anything of a line, a pin or its interrupt. With `latched` the stamp is the instant at which the pulse was due,
 * not when somebody noticed it.
 *
 * /sys/module/maser_pps/parameters, all of them for insmod, too:
 *   ppb          the reference is so much faster than CLOCK_MONOTONIC_RAW; a new rate begins with the last second
 *   edge_raw_ns  CLOCK_MONOTONIC_RAW when a second begins; the others are counted from it
 *   phase_ns     pulses come so much later than their seconds
 *   double_ns    each pulse comes once more so much later; 0: it doesn't
 *   silent       Y: no pulses
 *   lose         so many pulses are lost, then none
 *   latched      Y: stamped where they were due; N: when the timer's interrupt was served
 *   plugged      N: there is no device
 *   told         pulses told since the module was loaded (read only)
 *   told_raw_ns  CLOCK_MONOTONIC_RAW when the last of them was due (read only)
 */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/pps_kernel.h>

#include "seconds.h"

static struct seconds seconds;
static struct pps_device *device;
/* Parameters of insmod are read before there is anything to set. */
static bool is_up;

static long ppb;
static ulong edge_raw_ns;
static long phase_ns;
static uint double_ns;
static bool silent;
static uint lose;
static bool latched = true;
static bool plugged = true;
static uint told;
static ulong told_raw_ns;

static const struct pps_source_info source = {
	.name = KBUILD_MODNAME,
	.mode = PPS_CAPTUREASSERT | PPS_OFFSETASSERT | PPS_CANWAIT | PPS_TSFMT_TSPEC,
	.owner = THIS_MODULE,
};

static void pulse(struct seconds *s, u64 raw_ns)
{
	struct system_time_snapshot now;
	struct pps_event_time stamp;

	if (silent)
		return;
	if (lose) {
		lose--;
		return;
	}
	ktime_get_snapshot(&now);
	stamp.ts_real = ktime_to_timespec64(latched ? ktime_sub_ns(now.real, ktime_to_ns(now.raw) - raw_ns) : now.real);
#ifdef CONFIG_NTP_PPS
	stamp.ts_raw = ktime_to_timespec64(latched ? ns_to_ktime(raw_ns) : now.raw);
#endif
	told_raw_ns = raw_ns;
	told++;
	pps_event(device, &stamp, PPS_CAPTUREASSERT, NULL);
}

static void unplug(void)
{
	seconds_stop(&seconds);
	if (device)
		pps_unregister_source(device);
	device = NULL;
}

/* Makes things as the parameters say. */
static int apply(void)
{
	struct pps_source_info info = source;

	seconds_stop(&seconds);
	seconds.phase_ns = phase_ns;
	seconds.double_ns = double_ns;
	if (!plugged) {
		unplug();
		return 0;
	}
	if (!device) {
		device = pps_register_source(&info, PPS_CAPTUREASSERT | PPS_OFFSETASSERT);
		if (IS_ERR(device)) {
			int error = PTR_ERR(device);

			device = NULL;
			return error;
		}
	}
	seconds_start(&seconds);
	return 0;
}

static int set_ppb(const char *text, const struct kernel_param *parameter)
{
	long wanted;
	int error = kstrtol(text, 0, &wanted);

	if (error)
		return error;
	if (abs(wanted) > SECONDS_PPB_MAX)
		return -ERANGE;
	ppb = wanted;
	if (!is_up)
		return 0;
	seconds_stop(&seconds);
	seconds_set_rate(&seconds, ppb);
	return apply();
}

static int set_edge(const char *text, const struct kernel_param *parameter)
{
	int error = param_set_ulong(text, parameter);

	if (error || !is_up)
		return error;
	seconds_stop(&seconds);
	seconds.first_raw_ns = edge_raw_ns;
	return apply();
}

static int set_long(const char *text, const struct kernel_param *parameter)
{
	int error = param_set_long(text, parameter);

	return error || !is_up ? error : apply();
}

static int set_uint(const char *text, const struct kernel_param *parameter)
{
	int error = param_set_uint(text, parameter);

	return error || !is_up ? error : apply();
}

static int set_bool(const char *text, const struct kernel_param *parameter)
{
	int error = param_set_bool(text, parameter);

	return error || !is_up ? error : apply();
}

static const struct kernel_param_ops ppb_ops = { .set = set_ppb, .get = param_get_long };
static const struct kernel_param_ops edge_ops = { .set = set_edge, .get = param_get_ulong };
static const struct kernel_param_ops long_ops = { .set = set_long, .get = param_get_long };
static const struct kernel_param_ops uint_ops = { .set = set_uint, .get = param_get_uint };
static const struct kernel_param_ops bool_ops = { .set = set_bool, .get = param_get_bool };

module_param_cb(ppb, &ppb_ops, &ppb, 0644);
module_param_cb(edge_raw_ns, &edge_ops, &edge_raw_ns, 0644);
module_param_cb(phase_ns, &long_ops, &phase_ns, 0644);
module_param_cb(double_ns, &uint_ops, &double_ns, 0644);
module_param_cb(plugged, &bool_ops, &plugged, 0644);
module_param(silent, bool, 0644);
module_param(lose, uint, 0644);
module_param(latched, bool, 0644);
module_param(told, uint, 0444);
module_param(told_raw_ns, ulong, 0444);

static int __init begin(void)
{
	int error;

	seconds_init(&seconds, pulse);
	if (edge_raw_ns)
		seconds.first_raw_ns = edge_raw_ns;
	else
		edge_raw_ns = seconds.first_raw_ns;
	seconds.ppb = ppb;
	error = apply();
	is_up = !error;
	return error;
}

static void __exit end(void)
{
	unplug();
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("PPS source on CLOCK_MONOTONIC_RAW, a test double");
MODULE_LICENSE("GPL");
