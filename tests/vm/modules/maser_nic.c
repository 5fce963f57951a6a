// SPDX-License-Identifier: GPL-2.0
/*
 * Pairs of network interfaces on a wire of their own, each with a PTP hardware clock, that stamp all frames in hardware.
 *
 * Proves: what a program makes of hardware stamps, of clocks that are seconds and ppm apart, of external timestamps, and of a NIC
 * that doesn't do as it said. The wire has a speed: a frame is stamped, at both ends, when its first bit after the start-of-frame
 * delimiter passes, and it is there when its last bit is.
 * Doesn't prove: anything of a real NIC: its registers, rings, resets, the noise and delays of its stamps, the time its clock
 * takes to be read.
 *
 * For insmod: pairs=1…4: mnic0 with mnic1, mnic2 with mnic3, …
 * /sys/devices/platform/maser_nic.N/double, for mnicN in whatever namespace (all can be read and written):
 *   phc_ppb         its clock's own oscillator is so much faster than CLOCK_MONOTONIC_RAW
 *   phc_ns          its clock's time; written: it jumps there
 *   phc_jump_ns     written: it jumps by so much
 *   phc_stopped     1: it stands still
 *   phc_fails       1: reading it is an I/O error
 *   rx_filters      what it can be asked to stamp: all, ptp (PTP frames: none that is sent here), none
 *   rx_stamps, tx_stamps   good; none (though it was asked); zero; last (that of the frame before)
 *   rx_error_ns, tx_error_ns   stamps are so much later than they should be
 *   link_mbps       speed of the wire, of both ends
 *   cable_ns        delay of the wire, from this end
 *   pulse_ppb, pulse_raw_ns, pulse_phase_ns, pulse_silent   the pulse on its pin 0, which is channel 0 of its external timestamps:
 *                   see ppb, edge_raw_ns, phase_ns and silent of maser_pps
 */
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <linux/ptp_clock_kernel.h>

#include "phc.h"
#include "seconds.h"

#define PAIRS_MAX 4
/* Frames on their way before the interface takes no more. */
#define FRAMES_MAX 256
#define FRAMES_LOW 64
/* Octets: preamble with delimiter and gap; check sequence; the least a frame has without it. */
#define BETWEEN_FRAMES 20
#define CHECK_SEQUENCE 4
#define FRAME_MIN 60

enum stamping { GOOD, NONE, ZERO, LAST };
static const char *const stampings[] = { "good", "none", "zero", "last" };
enum filters { FILTER_ALL, FILTER_PTP, FILTER_NONE };
static const char *const filters[] = { "all", "ptp", "none" };

struct nic {
	struct net_device *dev;
	struct nic *peer;
	struct platform_device *parent;
	/* Held while what a user sets is being changed. */
	struct mutex setting;

	struct phc phc;
	bool phc_fails;
	struct ptp_clock *ptp;
	struct ptp_clock_info info;
	struct ptp_pin_desc pin;
	struct seconds pulses;
	bool pulse_silent;
	bool pulse_wanted;

	struct kernel_hwtstamp_config config;
	int rx_filters;
	int rx_stamps;
	int tx_stamps;
	s64 rx_error_ns;
	s64 tx_error_ns;
	s64 rx_last_ns;
	s64 tx_last_ns;

	/* What this end sends: on its way, each with the instant at which it begins. */
	struct sk_buff_head sending;
	struct hrtimer arrival;
	/* With the lock of `sending`: CLOCK_MONOTONIC_RAW when the wire is free. */
	u64 free_raw_ns;
	u32 link_mbps;
	u32 cable_ns;
	/* What came to this end. */
	struct sk_buff_head received;
	struct napi_struct napi;
};

/* Of a frame that is sent; CLOCK_MONOTONIC_RAW. */
struct passage {
	u64 begins_raw_ns;
	u64 ends_raw_ns;
};

static struct nic *nics[2 * PAIRS_MAX];
static uint pairs = 1;
module_param(pairs, uint, 0444);
MODULE_PARM_DESC(pairs, "pairs of interfaces, 1 to 4");

static struct nic *nic_of(struct net_device *dev)
{
	return *(struct nic **)netdev_priv(dev);
}

static struct passage *passage(struct sk_buff *skb)
{
	return (struct passage *)skb->cb;
}

static u64 octets_ns(const struct nic *nic, u32 octets)
{
	return div_u64((u64)octets * 8 * 1000, nic->link_mbps);
}

/* What hardware says for a true stamp: false for nothing. */
static bool stamped(int stamping, s64 error_ns, s64 *last_ns, s64 *ns)
{
	s64 true_ns = *ns + error_ns;

	*ns = stamping == ZERO ? 0 : stamping == LAST ? *last_ns : true_ns;
	*last_ns = true_ns;
	return stamping != NONE;
}

/* The sending end's part of a frame that has passed. */
static void tell_sent(struct nic *nic, struct sk_buff *skb)
{
	s64 ns = phc_of(&nic->phc, passage(skb)->begins_raw_ns);
	struct skb_shared_hwtstamps stamps = {};

	if (!(skb_shinfo(skb)->tx_flags & SKBTX_IN_PROGRESS))
		return;
	if (!stamped(nic->tx_stamps, nic->tx_error_ns, &nic->tx_last_ns, &ns))
		return;
	stamps.hwtstamp = ns_to_ktime(ns);
	skb_tstamp_tx(skb, &stamps);
}

/* The receiving end's. A frame of its own, as from a wire: nothing of the sender's is in it. */
static void receive(struct nic *nic, struct sk_buff *sent)
{
	s64 ns = phc_of(&nic->phc, passage(sent)->begins_raw_ns + nic->peer->cable_ns);
	struct sk_buff *skb;

	if (!netif_running(nic->dev))
		return;
	skb = netdev_alloc_skb_ip_align(nic->dev, sent->len);
	if (!skb || skb_copy_bits(sent, 0, skb_put(skb, sent->len), sent->len)) {
		kfree_skb(skb);
		DEV_STATS_INC(nic->dev, rx_dropped);
		return;
	}
	DEV_STATS_INC(nic->dev, rx_packets);
	DEV_STATS_ADD(nic->dev, rx_bytes, skb->len);
	if (nic->config.rx_filter == HWTSTAMP_FILTER_ALL && stamped(nic->rx_stamps, nic->rx_error_ns, &nic->rx_last_ns, &ns))
		skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(ns);
	skb->protocol = eth_type_trans(skb, nic->dev);
	skb_queue_tail(&nic->received, skb);
	napi_schedule(&nic->napi);
}

static int poll(struct napi_struct *napi, int budget)
{
	struct nic *nic = container_of(napi, struct nic, napi);
	struct sk_buff *skb;
	int done = 0;

	while (done < budget && (skb = skb_dequeue(&nic->received))) {
		napi_gro_receive(napi, skb);
		done++;
	}
	if (done < budget && napi_complete_done(napi, done) && !skb_queue_empty(&nic->received))
		napi_schedule(napi);
	return done;
}

static u64 arrives_raw_ns(const struct nic *nic, struct sk_buff *skb)
{
	return passage(skb)->ends_raw_ns + nic->cable_ns;
}

/* Frames whose last bit is there arrive; the timer goes on as long as there are others. */
static enum hrtimer_restart arrival(struct hrtimer *timer)
{
	struct nic *nic = container_of(timer, struct nic, arrival);
	enum hrtimer_restart again = HRTIMER_NORESTART;
	struct sk_buff_head arrived;
	struct sk_buff *skb;

	__skb_queue_head_init(&arrived);
	spin_lock(&nic->sending.lock);
	while ((skb = skb_peek(&nic->sending))) {
		s64 left_ns = arrives_raw_ns(nic, skb) - ktime_get_raw_ns();

		if (left_ns > 0) {
			hrtimer_set_expires(timer, ktime_add_ns(ktime_get(), left_ns));
			again = HRTIMER_RESTART;
			break;
		}
		__skb_unlink(skb, &nic->sending);
		__skb_queue_tail(&arrived, skb);
	}
	if (netif_queue_stopped(nic->dev) && skb_queue_len(&nic->sending) < FRAMES_LOW)
		netif_wake_queue(nic->dev);
	spin_unlock(&nic->sending.lock);

	while ((skb = __skb_dequeue(&arrived))) {
		DEV_STATS_INC(nic->dev, tx_packets);
		DEV_STATS_ADD(nic->dev, tx_bytes, skb->len);
		receive(nic->peer, skb);
		tell_sent(nic, skb);
		consume_skb(skb);
	}
	return again;
}

static netdev_tx_t transmit(struct sk_buff *skb, struct net_device *dev)
{
	struct nic *nic = nic_of(dev);
	u32 octets = max_t(u32, skb->len, FRAME_MIN) + CHECK_SEQUENCE;
	u64 now;

	if (skb_put_padto(skb, FRAME_MIN))
		return NETDEV_TX_OK;
	if ((skb_shinfo(skb)->tx_flags & SKBTX_HW_TSTAMP) && nic->config.tx_type == HWTSTAMP_TX_ON)
		skb_shinfo(skb)->tx_flags |= SKBTX_IN_PROGRESS;
	skb_tx_timestamp(skb);

	spin_lock_bh(&nic->sending.lock);
	now = ktime_get_raw_ns();
	/* The preamble goes first. */
	passage(skb)->begins_raw_ns = max(now, nic->free_raw_ns) + octets_ns(nic, 8);
	passage(skb)->ends_raw_ns = passage(skb)->begins_raw_ns + octets_ns(nic, octets);
	nic->free_raw_ns = passage(skb)->ends_raw_ns + octets_ns(nic, BETWEEN_FRAMES - 8);
	__skb_queue_tail(&nic->sending, skb);
	if (skb_queue_len(&nic->sending) >= FRAMES_MAX)
		netif_stop_queue(dev);
	/* The frames before this one have the timer already. */
	if (skb_queue_len(&nic->sending) == 1)
		hrtimer_start(&nic->arrival, ns_to_ktime(arrives_raw_ns(nic, skb) - now), HRTIMER_MODE_REL_SOFT);
	spin_unlock_bh(&nic->sending.lock);
	return NETDEV_TX_OK;
}

static int open(struct net_device *dev)
{
	struct nic *nic = nic_of(dev);

	napi_enable(&nic->napi);
	netif_start_queue(dev);
	if (netif_running(nic->peer->dev)) {
		netif_carrier_on(dev);
		netif_carrier_on(nic->peer->dev);
	}
	return 0;
}

static int stop(struct net_device *dev)
{
	struct nic *nic = nic_of(dev);

	netif_stop_queue(dev);
	netif_carrier_off(dev);
	netif_carrier_off(nic->peer->dev);
	/* What sends to this end must not find it half closed. */
	hrtimer_cancel(&nic->arrival);
	skb_queue_purge(&nic->sending);
	hrtimer_cancel(&nic->peer->arrival);
	skb_queue_purge(&nic->peer->sending);
	if (netif_running(nic->peer->dev))
		netif_wake_queue(nic->peer->dev);
	napi_disable(&nic->napi);
	skb_queue_purge(&nic->received);
	return 0;
}

static int get_config(struct net_device *dev, struct kernel_hwtstamp_config *config)
{
	*config = nic_of(dev)->config;
	return 0;
}

static int set_config(struct net_device *dev, struct kernel_hwtstamp_config *config, struct netlink_ext_ack *ack)
{
	struct nic *nic = nic_of(dev);

	if (config->tx_type != HWTSTAMP_TX_OFF && config->tx_type != HWTSTAMP_TX_ON)
		return -ERANGE;
	if (config->rx_filter != HWTSTAMP_FILTER_NONE) {
		if (nic->rx_filters == FILTER_NONE)
			return -ERANGE;
		/* It stamps more than it was asked for, as a driver may, or as little as it can. */
		config->rx_filter = nic->rx_filters == FILTER_ALL ? HWTSTAMP_FILTER_ALL : HWTSTAMP_FILTER_PTP_V2_EVENT;
	}
	nic->config = *config;
	return 0;
}

static const struct net_device_ops device_ops = {
	.ndo_open = open,
	.ndo_stop = stop,
	.ndo_start_xmit = transmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_hwtstamp_get = get_config,
	.ndo_hwtstamp_set = set_config,
};

static int get_ts_info(struct net_device *dev, struct kernel_ethtool_ts_info *info)
{
	struct nic *nic = nic_of(dev);

	info->so_timestamping = SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE |
				SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
	info->phc_index = ptp_clock_index(nic->ptp);
	info->tx_types = BIT(HWTSTAMP_TX_OFF) | BIT(HWTSTAMP_TX_ON);
	info->rx_filters = BIT(HWTSTAMP_FILTER_NONE);
	if (nic->rx_filters == FILTER_ALL)
		info->rx_filters |= BIT(HWTSTAMP_FILTER_ALL);
	else if (nic->rx_filters == FILTER_PTP)
		info->rx_filters |= BIT(HWTSTAMP_FILTER_PTP_V2_EVENT);
	return 0;
}

static int get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	settings->base.speed = nic_of(dev)->link_mbps;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_TP;
	return 0;
}

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
}

static const struct ethtool_ops ethtool_operations = {
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = get_link_ksettings,
	.get_ts_info = get_ts_info,
};

static struct nic *nic_of_info(struct ptp_clock_info *info)
{
	return container_of(info, struct nic, info);
}

static int adjfine(struct ptp_clock_info *info, long scaled_ppm)
{
	struct phc *phc = &nic_of_info(info)->phc;
	unsigned long flags;

	phc_begin(phc, &flags);
	phc->scaled_ppm = scaled_ppm;
	phc_end(phc, flags);
	return 0;
}

static int adjtime(struct ptp_clock_info *info, s64 by_ns)
{
	struct phc *phc = &nic_of_info(info)->phc;
	unsigned long flags;

	phc_begin(phc, &flags);
	phc->at_ns += by_ns;
	phc_end(phc, flags);
	return 0;
}

static int settime64(struct ptp_clock_info *info, const struct timespec64 *time)
{
	struct phc *phc = &nic_of_info(info)->phc;
	unsigned long flags;

	phc_begin(phc, &flags);
	phc->at_ns = timespec64_to_ns(time);
	phc_end(phc, flags);
	return 0;
}

static int gettimex64(struct ptp_clock_info *info, struct timespec64 *time, struct ptp_system_timestamp *around)
{
	struct nic *nic = nic_of_info(info);
	u64 raw_ns;

	if (nic->phc_fails)
		return -EIO;
	ptp_read_system_prets(around);
	raw_ns = ktime_get_raw_ns();
	ptp_read_system_postts(around);
	*time = ns_to_timespec64(phc_of(&nic->phc, raw_ns));
	return 0;
}

static int getcrosststamp(struct ptp_clock_info *info, struct system_device_crosststamp *cross)
{
	struct nic *nic = nic_of_info(info);
	struct system_time_snapshot now;

	if (nic->phc_fails)
		return -EIO;
	ktime_get_snapshot(&now);
	cross->device = ns_to_ktime(phc_of(&nic->phc, ktime_to_ns(now.raw)));
	cross->sys_realtime = now.real;
	cross->sys_monoraw = now.raw;
	return 0;
}

static void pulse(struct seconds *seconds, u64 raw_ns)
{
	struct nic *nic = container_of(seconds, struct nic, pulses);
	struct ptp_clock_event event = { .type = PTP_CLOCK_EXTTS, .index = 0 };

	if (nic->pulse_silent)
		return;
	event.timestamp = phc_of(&nic->phc, raw_ns);
	ptp_clock_event(nic->ptp, &event);
}

static int enable(struct ptp_clock_info *info, struct ptp_clock_request *request, int on)
{
	struct nic *nic = nic_of_info(info);

	if (request->type != PTP_CLK_REQ_EXTTS || request->extts.index != 0)
		return -EOPNOTSUPP;
	if (on && (request->extts.flags & PTP_FALLING_EDGE))
		return -EOPNOTSUPP;
	mutex_lock(&nic->setting);
	seconds_stop(&nic->pulses);
	nic->pulse_wanted = on;
	if (on)
		seconds_start(&nic->pulses);
	mutex_unlock(&nic->setting);
	return 0;
}

static int verify(struct ptp_clock_info *info, unsigned int pin, enum ptp_pin_function function, unsigned int channel)
{
	return function == PTP_PF_NONE || function == PTP_PF_EXTTS ? 0 : -EOPNOTSUPP;
}

/* The numbers below `double`: what is shown, what may be written, what that does with `value`. */
#define DOUBLE(name, shown, least, most, stored)                                                                         \
	static ssize_t name##_show(struct device *device, struct device_attribute *attribute, char *text)                \
	{                                                                                                                \
		struct nic *nic __maybe_unused = dev_get_drvdata(device);                                             \
                                                                                                                         \
		return sysfs_emit(text, "%lld\n", (s64)(shown));                                                         \
	}                                                                                                                \
	static ssize_t name##_store(struct device *device, struct device_attribute *attribute, const char *text,         \
				    size_t octets)                                                                       \
	{                                                                                                                \
		struct nic *nic = dev_get_drvdata(device);                                                            \
		s64 value;                                                                                               \
		int error = kstrtoll(text, 0, &value);                                                                   \
                                                                                                                         \
		if (error)                                                                                               \
			return error;                                                                                    \
		if (value < (least) || value > (most))                                                                   \
			return -ERANGE;                                                                                  \
		mutex_lock(&nic->setting);                                                                               \
		stored;                                                                                                  \
		mutex_unlock(&nic->setting);                                                                             \
		return octets;                                                                                           \
	}                                                                                                                \
	static DEVICE_ATTR_RW(name)

/* The same for one of some words. */
#define DOUBLE_WORD(name, words)                                                                                         \
	static ssize_t name##_show(struct device *device, struct device_attribute *attribute, char *text)                \
	{                                                                                                                \
		return sysfs_emit(text, "%s\n", words[((struct nic *)dev_get_drvdata(device))->name]);                                \
	}                                                                                                                \
	static ssize_t name##_store(struct device *device, struct device_attribute *attribute, const char *text,         \
				    size_t octets)                                                                       \
	{                                                                                                                \
		struct nic *nic = dev_get_drvdata(device);                                                               \
		int value = sysfs_match_string(words, text);                                                             \
                                                                                                                         \
		if (value < 0)                                                                                           \
			return value;                                                                                    \
		nic->name = value;                                                                                    \
		return octets;                                                                                           \
	}                                                                                                                \
	static DEVICE_ATTR_RW(name)

#define CHANGE_PHC(phc, change)                   \
	do {                                      \
		unsigned long flags;              \
                                                  \
		phc_begin(phc, &flags);           \
		change;                           \
		phc_end(phc, flags);              \
	} while (0)

#define CHANGE_PULSES(nic, change)                        \
	do {                                              \
		seconds_stop(&(nic)->pulses);             \
		change;                                   \
		if ((nic)->pulse_wanted)                  \
			seconds_start(&(nic)->pulses);    \
	} while (0)

DOUBLE(phc_ppb, nic->phc.ppb, -SECONDS_PPB_MAX, SECONDS_PPB_MAX, CHANGE_PHC(&nic->phc, nic->phc.ppb = value));
DOUBLE(phc_ns, phc_of(&nic->phc, ktime_get_raw_ns()), 0, S64_MAX, CHANGE_PHC(&nic->phc, nic->phc.at_ns = value));
DOUBLE(phc_jump_ns, 0, S64_MIN, S64_MAX, CHANGE_PHC(&nic->phc, nic->phc.at_ns += value));
DOUBLE(phc_stopped, nic->phc.is_stopped, 0, 1, CHANGE_PHC(&nic->phc, nic->phc.is_stopped = value));
DOUBLE(phc_fails, nic->phc_fails, 0, 1, nic->phc_fails = value);
DOUBLE(rx_error_ns, nic->rx_error_ns, S64_MIN, S64_MAX, nic->rx_error_ns = value);
DOUBLE(tx_error_ns, nic->tx_error_ns, S64_MIN, S64_MAX, nic->tx_error_ns = value);
DOUBLE(link_mbps, nic->link_mbps, 1, 1000000, nic->link_mbps = nic->peer->link_mbps = value);
DOUBLE(cable_ns, nic->cable_ns, 0, NSEC_PER_SEC, nic->cable_ns = value);
DOUBLE(pulse_ppb, nic->pulses.ppb, -SECONDS_PPB_MAX, SECONDS_PPB_MAX,
       CHANGE_PULSES(nic, seconds_set_rate(&nic->pulses, value)));
DOUBLE(pulse_raw_ns, nic->pulses.first_raw_ns, 0, S64_MAX, CHANGE_PULSES(nic, nic->pulses.first_raw_ns = value));
DOUBLE(pulse_phase_ns, nic->pulses.phase_ns, -(s64)NSEC_PER_SEC, NSEC_PER_SEC,
       CHANGE_PULSES(nic, nic->pulses.phase_ns = value));
DOUBLE(pulse_silent, nic->pulse_silent, 0, 1, nic->pulse_silent = value);
DOUBLE_WORD(rx_filters, filters);
DOUBLE_WORD(rx_stamps, stampings);
DOUBLE_WORD(tx_stamps, stampings);

static struct attribute *double_attributes[] = {
	&dev_attr_phc_ppb.attr,	    &dev_attr_phc_ns.attr,	  &dev_attr_phc_jump_ns.attr,	 &dev_attr_phc_stopped.attr,
	&dev_attr_phc_fails.attr,   &dev_attr_rx_error_ns.attr,	  &dev_attr_tx_error_ns.attr,	 &dev_attr_link_mbps.attr,
	&dev_attr_cable_ns.attr,    &dev_attr_pulse_ppb.attr,	  &dev_attr_pulse_raw_ns.attr,	 &dev_attr_pulse_phase_ns.attr,
	&dev_attr_pulse_silent.attr, &dev_attr_rx_filters.attr,	  &dev_attr_rx_stamps.attr,	 &dev_attr_tx_stamps.attr,
	NULL,
};

static const struct attribute_group double_group = { .name = "double", .attrs = double_attributes };

static void destroy(struct nic *nic)
{
	if (nic->dev) {
		netif_napi_del(&nic->napi);
		free_netdev(nic->dev);
	}
	if (!IS_ERR_OR_NULL(nic->ptp)) {
		seconds_stop(&nic->pulses);
		ptp_clock_unregister(nic->ptp);
	}
	if (!IS_ERR_OR_NULL(nic->parent))
		platform_device_unregister(nic->parent);
	kfree(nic);
}

/* Makes one that isn't registered yet. */
static struct nic *create(uint number)
{
	struct nic *nic = kzalloc(sizeof(*nic), GFP_KERNEL);

	if (!nic)
		return ERR_PTR(-ENOMEM);
	mutex_init(&nic->setting);
	spin_lock_init(&nic->phc.lock);
	nic->phc.at_raw_ns = ktime_get_raw_ns();
	nic->phc.at_ns = ktime_get_real_ns();
	nic->link_mbps = 1000;
	skb_queue_head_init(&nic->sending);
	skb_queue_head_init(&nic->received);
	hrtimer_init(&nic->arrival, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	nic->arrival.function = arrival;
	seconds_init(&nic->pulses, pulse);

	nic->parent = platform_device_register_simple(KBUILD_MODNAME, number, NULL, 0);
	if (IS_ERR(nic->parent))
		goto failed;
	platform_set_drvdata(nic->parent, nic);
	strscpy(nic->pin.name, "pulse", sizeof(nic->pin.name));
	nic->info = (struct ptp_clock_info){
		.owner = THIS_MODULE,
		.max_adj = SECONDS_PPB_MAX,
		.n_ext_ts = 1,
		.n_pins = 1,
		.pin_config = &nic->pin,
		.adjfine = adjfine,
		.adjtime = adjtime,
		.gettimex64 = gettimex64,
		.getcrosststamp = getcrosststamp,
		.settime64 = settime64,
		.enable = enable,
		.verify = verify,
	};
	snprintf(nic->info.name, sizeof(nic->info.name), "mnic%u", number);
	nic->ptp = ptp_clock_register(&nic->info, &nic->parent->dev);
	if (IS_ERR(nic->ptp))
		goto failed;

	nic->dev = alloc_etherdev(sizeof(nic));
	if (!nic->dev)
		goto failed;
	*(struct nic **)netdev_priv(nic->dev) = nic;
	snprintf(nic->dev->name, IFNAMSIZ, "mnic%u", number);
	nic->dev->netdev_ops = &device_ops;
	nic->dev->ethtool_ops = &ethtool_operations;
	SET_NETDEV_DEV(nic->dev, &nic->parent->dev);
	eth_hw_addr_random(nic->dev);
	netif_napi_add(nic->dev, &nic->napi, poll);
	netif_carrier_off(nic->dev);
	return nic;
failed:
	destroy(nic);
	return ERR_PTR(-ENODEV);
}

static void end(void)
{
	uint number;

	/* Each may still send to its peer until that is gone, too. */
	for (number = 0; number < ARRAY_SIZE(nics); number++) {
		if (!nics[number])
			continue;
		device_remove_group(&nics[number]->parent->dev, &double_group);
		if (nics[number]->dev->reg_state == NETREG_REGISTERED)
			unregister_netdev(nics[number]->dev);
	}
	for (number = 0; number < ARRAY_SIZE(nics); number++)
		if (nics[number])
			destroy(nics[number]);
}

static int __init begin(void)
{
	uint number;
	int error = 0;

	if (pairs < 1 || pairs > PAIRS_MAX)
		return -ERANGE;
	for (number = 0; number < 2 * pairs && !error; number++) {
		struct nic *nic = create(number);

		if (IS_ERR(nic))
			error = PTR_ERR(nic);
		else
			nics[number] = nic;
	}
	for (number = 0; number < 2 * pairs && !error; number++) {
		nics[number]->peer = nics[number ^ 1];
		nics[number ^ 1]->peer = nics[number];
		error = device_add_group(&nics[number]->parent->dev, &double_group) ?: register_netdev(nics[number]->dev);
	}
	if (error)
		end();
	return error;
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("Pairs of interfaces with hardware clocks and stamps, a test double");
MODULE_LICENSE("GPL");
