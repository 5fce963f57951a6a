//! NIC settings are recorded, changed and put back, whatever happened in between.

use crate::rig::{ip, on_host};
use maser::interface::settings::{Record, Restored, Settings, SettingsError};
use maser_sys::netlink::dump;
use std::fs;

const OURS: Settings = Settings { defer_hard_irqs: 2, flush_timeout_ns: 200_000 };

fn now(name: &str) -> [String; 2] {
    ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|setting| {
        fs::read_to_string(format!("/sys/class/net/{name}/{setting}")).unwrap().trim().to_owned()
    })
}

fn record() -> Record {
    OURS.record(dump().unwrap().link_named("near").unwrap()).unwrap()
}

#[test]
fn settings_are_put_back_from_the_record() {
    on_host("NIC settings", |_| {
        fs::write("/sys/class/net/near/gro_flush_timeout", "12345").unwrap();
        let before = now("near");
        let record = record();
        assert_eq!(now("near"), before, "nothing is changed before the record is kept");
        // The record is kept in a file, and read by another process.
        let record: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        for _ in 0..2 {
            record.apply().unwrap();
            assert_eq!(now("near"), ["2", "200000"]);
        }
        for _ in 0..2 {
            assert_eq!(record.restore().unwrap(), Restored::Done);
            assert_eq!(now("near"), before);
        }
    });
}

#[test]
fn what_somebody_set_since_stays_and_a_new_name_is_no_hindrance() {
    on_host("NIC settings since", |_| {
        let record = record();
        record.apply().unwrap();
        fs::write("/sys/class/net/near/napi_defer_hard_irqs", "7").unwrap();
        ip("link set near down");
        ip("link set near name other");
        assert_eq!(record.restore().unwrap(), Restored::Done);
        assert_eq!(now("other"), ["7", "0"]);
        ip("link delete other");
        assert_eq!(record.restore().unwrap(), Restored::Gone);
        // Another interface of the same name is none of ours.
        ip("link add near type veth peer name far");
        fs::write("/sys/class/net/near/gro_flush_timeout", "200000").unwrap();
        assert_eq!(record.restore().unwrap(), Restored::Gone);
        assert_eq!(now("near"), ["0", "200000"]);
        assert!(matches!(record.apply(), Err(SettingsError::NotShown(name)) if name == "near"));
    });
}
