//! The heaviest clients as `maser clients` prints them.

use std::fmt::Write;

use super::clients::{ByFate, ClientStatus, ClientsStatus};
use super::columns::Columns;
use super::units::{count, interval, per_second_of, share, uptime, whole};

/// What became of all requests, how exact the figures are, and a client a line.
#[must_use]
pub fn clients_table(clients: &ClientsStatus) -> String {
    let mut text = head(clients);
    if clients.requests.sum() == 0.0 {
        text.push_str("\nnobody has asked yet\n");
    }
    for (name, list) in [("Address", &clients.addresses), ("Prefix", &clients.prefixes)] {
        if !list.is_empty() {
            text.push('\n');
            text.push_str(&rows(name, list));
        }
    }
    text
}

fn head(clients: &ClientsStatus) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string doesn't fail.
        let _ = writeln!(lines, "{name:<16}: {value}");
    };
    let fades = format!("those of {} ago count half", interval(clients.half_life_s));
    line("Rate", &format!("{}; {fades}", by_fate(&clients.rate, per_second_of)));
    line("Requests", &by_fate(&clients.requests, |requests| count(whole(requests))));
    line("Counted for", &uptime(clients.for_s));
    let exact = if clients.looked_at_one_in < 1.005 {
        "every request is looked at; ± is what may have been missed before a client was counted".to_owned()
    } else {
        format!(
            "1 in {:.1} requests is looked at; ± is three standard deviations of that, and what may have been missed \
             before a client was counted",
            clients.looked_at_one_in
        )
    };
    line("Exactness", &exact);
    if clients.lost > 0.0 {
        let lost = count(whole(clients.lost));
        line(
            "Not counted",
            &format!("{lost} requests: the thread that counts didn't get its turn on any core"),
        );
    }
    if !clients.limiting {
        line("Limits", "off: nobody is limited; a `rate` in [limit] of the configuration turns them on");
    }
    lines
}

/// All of them, then what became of them where anything else than an answer did.
fn by_fate(figures: &ByFate, told: fn(f64) -> String) -> String {
    let ByFate { served, limited, kissed, denied } = *figures;
    let mut text = told(figures.sum());
    if limited + kissed + denied > 0.0 {
        for (name, figure) in
            [("served", served), ("limited", limited), ("kissed", kissed), ("denied", denied)]
        {
            let gap = if name == "served" { " (" } else { ", " };
            let _ = write!(text, "{gap}{} {name}", told(figure));
        }
        text.push(')');
    }
    text
}

fn rows(name: &str, list: &[ClientStatus]) -> String {
    let mut columns = Columns::new(1);
    columns.row([name, "Rate", "±", "Share", "Served", "Limited", "Kissed", "Denied", "±", "For", "Last"]);
    let requests = |requests| count(whole(requests));
    for ClientStatus {
        client,
        rate,
        rate_error,
        share: part,
        requests: counted,
        requests_error,
        for_s,
        last_s,
    } in list
    {
        let ByFate { served, limited, kissed, denied } = *counted;
        columns.row([
            client.clone(),
            per_second_of(rate.sum()),
            per_second_of(*rate_error),
            share(*part),
            requests(served),
            requests(limited),
            requests(kissed),
            requests(denied),
            requests(*requests_error),
            interval(*for_s),
            interval(*last_s),
        ]);
    }
    columns.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plausible() -> ClientsStatus {
        let client = |client: &str, rate, share, requests| ClientStatus {
            client: client.to_owned(),
            rate,
            rate_error: 31.25,
            share,
            requests,
            requests_error: 1_204.25,
            for_s: 3_723.5,
            last_s: 0.5,
        };
        let served = ByFate { served: 0.0156, ..ByFate::default() };
        let abuser = ByFate { served: 8.0, limited: 900.5, kissed: 1.0, denied: 0.0 };
        ClientsStatus {
            for_s: 11_289.5,
            half_life_s: 60.0,
            limiting: true,
            truncated: false,
            looked_at_one_in: 14.75,
            lost: 0.0,
            rate: ByFate { served: 12_345.5, ..abuser },
            requests: ByFate { served: 133_000_000.0, limited: 2_700_000.0, kissed: 3_000.0, denied: 0.0 },
            addresses: vec![
                client("192.0.2.1", abuser, 0.069_5, ByFate { limited: 2_700_000.0, ..abuser }),
                client("2001:db8:1:2::/64", served, 1e-6, ByFate { served: 58.0, ..ByFate::default() }),
            ],
            prefixes: vec![client("192.0.2.0/24", abuser, 0.069_5, abuser)],
        }
    }

    #[test]
    fn plausible_clients_look_like_this() {
        let expected = "\
Rate            : 13,247/s (12,346/s served, 901/s limited, 1.0/s kissed, 0/s denied); those of 60 s ago count half
Requests        : 135,703,000 (133,000,000 served, 2,700,000 limited, 3,000 kissed, 0 denied)
Counted for     : 03:08:09
Exactness       : 1 in 14.8 requests is looked at; ± is three standard deviations of that, and what may have been missed before a client was counted

Address               Rate     ±    Share  Served    Limited  Kissed  Denied      ±     For  Last
192.0.2.1            910/s  31/s   6.95 %       8  2,700,000       1       0  1,204  3724 s   0 s
2001:db8:1:2::/64  0.016/s  31/s  <0.01 %      58          0       0       0  1,204  3724 s   0 s

Prefix         Rate     ±   Share  Served  Limited  Kissed  Denied      ±     For  Last
192.0.2.0/24  910/s  31/s  6.95 %       8      901       1       0  1,204  3724 s   0 s
";
        let text = clients_table(&plausible());
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn the_document_keeps_its_names() {
        let expected = concat!(
            r#"{"for_s":11289.5,"half_life_s":60.0,"limiting":true,"truncated":false,"looked_at_one_in":14.75,"lost":0.0,"#,
            r#""rate":{"served":12345.5,"limited":900.5,"kissed":1.0,"denied":0.0},"#,
            r#""requests":{"served":133000000.0,"limited":2700000.0,"kissed":3000.0,"denied":0.0},"#,
            r#""addresses":[{"client":"192.0.2.1","#,
            r#""rate":{"served":8.0,"limited":900.5,"kissed":1.0,"denied":0.0},"rate_error":31.25,"share":0.0695,"#,
            r#""requests":{"served":8.0,"limited":2700000.0,"kissed":1.0,"denied":0.0},"requests_error":1204.25,"#,
            r#""for_s":3723.5,"last_s":0.5}],"#,
            r#""prefixes":[{"client":"192.0.2.0/24","#,
            r#""rate":{"served":8.0,"limited":900.5,"kissed":1.0,"denied":0.0},"rate_error":31.25,"share":0.0695,"#,
            r#""requests":{"served":8.0,"limited":900.5,"kissed":1.0,"denied":0.0},"requests_error":1204.25,"#,
            r#""for_s":3723.5,"last_s":0.5}]}"#
        );
        let document = ClientsStatus { addresses: vec![plausible().addresses[0].clone()], ..plausible() };
        assert_eq!(serde_json::to_string(&document).unwrap(), expected);
        assert_eq!(serde_json::from_str::<ClientsStatus>(expected).unwrap(), document);
    }

    #[test]
    fn a_server_without_limits_says_how_to_have_them_and_one_without_clients_that_there_are_none() {
        let text = clients_table(&ClientsStatus::default());
        assert!(text.contains("Limits          : off: nobody is limited; a `rate` in [limit]"), "{text}");
        assert!(text.ends_with("\nnobody has asked yet\n"), "{text}");
        assert!(text.contains("every request is looked at") && !text.contains("Not counted"), "{text}");
        let text = clients_table(&ClientsStatus { lost: 1_204.0, ..ClientsStatus::default() });
        assert!(text.contains("Not counted     : 1,204 requests"), "{text}");
        assert!(!clients_table(&plausible()).contains("nobody"));
    }

    #[test]
    fn text_from_the_socket_cannot_drive_the_terminal() {
        let mut clients = plausible();
        clients.addresses[0].client = "\u{1b}]0;title\u{7}".to_owned();
        assert!(!clients_table(&clients).contains(['\u{1b}', '\u{7}']));
    }
}
