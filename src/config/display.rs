//! A configuration as a file that says the same, every key written out.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::source::{Edge, GpsdPlace, Serial, Source, SourceKind, SourceType};
use super::span::written;
use super::value::{NicStamps, Workers};
use super::{Access, AccessEntries, Config, Limit, Server};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_server(f)?;
        write_limit(&self.limit, f)?;
        write_access(&self.access, f)?;
        if let Some(socket) = &self.status.socket {
            writeln!(f, "\n[status]\nsocket = {}", quoted_path(socket))?;
        }
        if !self.metrics.listen.is_empty() {
            writeln!(f, "\n[metrics]\nlisten = {}", addresses(&self.metrics.listen))?;
        }
        for source in &self.sources {
            self.write_source(source, f)?;
        }
        let clock = &self.clock;
        writeln!(f, "\n[clock]\nroot_distance_max = \"{}\"", written(clock.root_distance_max))?;
        writeln!(f, "agree_min = {}", clock.agree_min)?;
        if let Some(file) = &clock.leap_file {
            writeln!(f, "leap_file = {}", quoted_path(file))?;
        }
        if let Some(directory) = &clock.state {
            writeln!(f, "state = {}", quoted_path(directory))?;
        }
        writeln!(f, "holdover_max = \"{}\"", written(clock.holdover_max))?;
        writeln!(f, "steer = {}", clock.steer)?;
        if clock.first_step_unlimited {
            writeln!(f, "first_step_unlimited = true")?;
        }
        if let Some(smear) = &self.smear {
            writeln!(f, "\n[smear]\nlisten = {}", addresses(&smear.listen))?;
            writeln!(f, "length = \"{}\"", written(smear.length))?;
        }
        if let Some(stratum) = self.local {
            writeln!(f, "\n[local]\nstratum = {stratum}")?;
        }
        Ok(())
    }
}

impl Config {
    fn write_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server {
            listen,
            public,
            port,
            interfaces,
            nic_stamps,
            workers,
            idle,
            busy_poll,
            batch,
            receive_buffer_octets,
            interleaved_clients,
            transmit_correction,
        } = &self.server;
        writeln!(f, "[server]\nlisten = {}\npublic = {public}", addresses(listen))?;
        let listed = |names: &[String]| -> String {
            names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "port = \"{}\"\ninterface = [{}]", port.word(), listed(interfaces))?;
        match nic_stamps {
            NicStamps::OfInterfaces => {}
            NicStamps::Every => writeln!(f, "nic_stamps = [{}]", quoted(NicStamps::EVERY))?,
            NicStamps::Named(names) => writeln!(f, "nic_stamps = [{}]", listed(names))?,
        }
        match workers {
            Workers::Auto => {}
            Workers::Count(number) => writeln!(f, "workers = {number}")?,
            Workers::Cores(cores) => writeln!(f, "workers = {cores:?}")?,
        }
        writeln!(f, "idle = \"{}\"\nbusy_poll = {busy_poll}", idle.word())?;
        writeln!(f, "batch = {batch}\nreceive_buffer = {receive_buffer_octets}")?;
        writeln!(f, "interleaved_clients = {interleaved_clients}")?;
        writeln!(f, "transmit_correction = {transmit_correction}")
    }

    fn write_pulses(&self, edge: Edge, label: &[usize], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = label.iter().filter_map(|&at| self.sources.get(at)).map(|one| quoted(&one.name));
        let names: Vec<String> = names.collect();
        writeln!(f, "edge = \"{}\"\nlabel = [{}]", edge.word(), names.join(", "))
    }

    fn write_source(&self, source: &Source, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { name, prefer, offset, error, reference_id, kind } = source;
        let kind_of = kind.of_type();
        writeln!(f, "\n[[source]]\ntype = \"{}\"\nname = {}", kind_of.word(), quoted(name))?;
        match kind {
            SourceKind::Gpsd(GpsdPlace::Socket(path)) => writeln!(f, "socket = {}", quoted_path(path))?,
            SourceKind::Gpsd(GpsdPlace::SharedMemory(unit)) => writeln!(f, "shm = {unit}")?,
            SourceKind::Nmea(serial) => write_serial(serial, f)?,
            SourceKind::Ubx { serial, configure } => {
                write_serial(serial, f)?;
                writeln!(f, "configure = {configure}")?;
            }
            SourceKind::Pps { device, edge, label } => {
                writeln!(f, "device = {}", quoted_path(device))?;
                self.write_pulses(*edge, label, f)?;
            }
            SourceKind::Phc { device, timescale } => {
                writeln!(f, "device = {}\ntimescale = \"{}\"", quoted_path(device), timescale.word())?;
            }
            SourceKind::PhcPulses { device, channel, pin, edge, label } => {
                writeln!(f, "device = {}\nchannel = {channel}", quoted_path(device))?;
                if let Some(pin) = pin {
                    writeln!(f, "pin = {}", quoted(pin))?;
                }
                self.write_pulses(*edge, label, f)?;
            }
            SourceKind::Ntp { address, burst, interleaved, poll_min_log2_s, poll_max_log2_s } => {
                writeln!(f, "address = \"{address}\"\nburst = {burst}\ninterleaved = {interleaved}")?;
                writeln!(f, "poll_min = \"{} s\"", 1_u64 << poll_min_log2_s)?;
                writeln!(f, "poll_max = \"{} s\"", 1_u64 << poll_max_log2_s)?;
            }
            SourceKind::Machine { stratum } => writeln!(f, "stratum = {stratum}")?,
        }
        if kind_of != SourceType::Machine {
            writeln!(f, "prefer = {prefer}\noffset = \"{}\"", written(*offset))?;
            writeln!(f, "error = \"{}\"", written(*error))?;
        }
        match reference_id {
            Some(id) if kind_of.is_reference_clock() => {
                let name: String =
                    id.iter().take_while(|&&octet| octet != 0).map(|&octet| char::from(octet)).collect();
                writeln!(f, "reference_id = {}", quoted(&name))
            }
            Some(id) => writeln!(f, "reference_id = \"{}\"", Ipv4Addr::from(*id)),
            None => Ok(()),
        }
    }
}

fn write_limit(limit: &Limit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Limit {
        rate,
        burst,
        prefix_rate,
        prefix_burst,
        prefix_ip4,
        prefix_ip6,
        memory_octets,
        kiss,
        kisses_per_second,
        driver,
    } = limit;
    writeln!(f, "\n[limit]\nrate = {rate}\nburst = {burst}")?;
    writeln!(f, "prefix_rate = {prefix_rate}\nprefix_burst = {prefix_burst}")?;
    writeln!(f, "prefix_ip4 = {prefix_ip4}\nprefix_ip6 = {prefix_ip6}\nmemory = {memory_octets}")?;
    writeln!(f, "kiss = {kiss}\nkisses_per_second = {kisses_per_second}\ndriver = {driver}")
}

fn write_access(access: &Access, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Access { default, allow, deny, exempt, deny_kiss, bogons } = access;
    writeln!(f, "\n[access]\ndefault = \"{}\"", default.word())?;
    for (word, AccessEntries { prefixes, file }) in [("allow", allow), ("deny", deny), ("exempt", exempt)] {
        let listed: Vec<String> = prefixes.iter().map(|prefix| format!("\"{prefix}\"")).collect();
        writeln!(f, "{word} = [{}]", listed.join(", "))?;
        if let Some(file) = file {
            writeln!(f, "{word}_file = {}", quoted_path(file))?;
        }
    }
    writeln!(f, "deny_kiss = {deny_kiss}\nbogons = {bogons}")
}

fn write_serial(serial: &Serial, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "device = {}", quoted_path(&serial.device))?;
    if let Some(baud) = serial.baud {
        writeln!(f, "baud = {baud}")?;
    }
    match serial.delay {
        Some(delay) => writeln!(f, "delay = \"{}\"", written(delay)),
        None => Ok(()),
    }
}

fn addresses(listen: &[SocketAddr]) -> String {
    let listen: Vec<String> = listen.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[{}]", listen.join(", "))
}

/// With TOML's own escapes.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A path of the file was UTF-8.
fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
