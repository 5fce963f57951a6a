//! Which packet port is taken where the kernel, or a container's filter, refuses one: strace plays the filter.

use std::net::Ipv4Addr;

use crate::maser::{Client, READY_LIMIT, Setting, works_or_skip};

const NO_IO_URING: &str = "inject=io_uring_setup:error=EPERM";
/// As containers' filters refuse what they don't know, and as they refuse what they forbid; with the kernel's words.
const NO_RECVMMSG: [(&str, &str); 2] = [
    ("inject=recvmmsg:error=ENOSYS", "Function not implemented"),
    ("inject=recvmmsg:error=EPERM", "Operation not permitted"),
];

/// A server whose system calls fail as `refusals` say. strace runs beside it, so that signals reach the server itself.
fn where_refused(refusals: &[&str]) -> Setting {
    let mut command = vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none"];
    command.extend(["-e", "trace=io_uring_setup,recvmmsg"]);
    command.extend(refusals.iter().flat_map(|refusal| ["-e", refusal]));
    Setting::new().under(&command)
}

fn strace_or_skip(name: &str) -> bool {
    works_or_skip(name, &["strace", "-o", "/dev/null", "-e", NO_IO_URING, "true"])
}

/// Serves on `rung`, answers, and says so with `why` in its log and its status.
fn assert_auto_takes(setting: Setting, rung: &str, why: &[&str]) {
    let mut server = setting.with(&["--port", "auto"]).start();
    assert!(Client::at(Ipv4Addr::LOCALHOST).ask(server.address()).is_some(), "{}", server.log());
    let (status, log) = (server.status(), server.log());
    let port = &status["ports"][0];
    assert_eq!(port["rung"], rung, "{log}");
    let told = port["why"].as_str().unwrap_or_default();
    for word in why {
        assert!(told.contains(word), "no `{word}` in the status: {told}");
    }
    assert!(log.contains(&format!("port: {rung}: {told}")), "{log}");
    server.stop();
}

#[test]
fn io_uring_by_name_is_that_or_a_refusal_that_says_what_to_do() {
    if !strace_or_skip("io_uring_by_name_is_that_or_a_refusal_that_says_what_to_do") {
        return;
    }
    let errors = where_refused(&[NO_IO_URING]).with(&["--port", "io-uring"]).refused(READY_LIMIT).errors;
    for word in ["kernel.io_uring_disabled", "seccomp", "port = \"auto\""] {
        assert!(errors.contains(word), "no `{word}` in:\n{errors}");
    }
    // The words of the message are those of the command line.
    assert!(!errors.contains("mmsg port"), "there is no --port mmsg:\n{errors}");
}

#[test]
fn the_socket_port_by_name_is_that_or_a_refusal_that_says_what_to_do() {
    if !strace_or_skip("the_socket_port_by_name_is_that_or_a_refusal_that_says_what_to_do") {
        return;
    }
    for (refusal, why) in NO_RECVMMSG {
        let errors = where_refused(&[refusal]).with(&["--port", "socket"]).refused(READY_LIMIT).errors;
        for word in ["recvmmsg is refused", why, "system call filter", "port = \"auto\""] {
            assert!(errors.contains(word), "no `{word}` in:\n{errors}");
        }
    }
}

#[test]
fn auto_takes_the_first_rung_where_io_uring_is_refused() {
    if strace_or_skip("auto_takes_the_first_rung_where_io_uring_is_refused") {
        assert_auto_takes(where_refused(&[NO_IO_URING]), "socket", &["the first rung"]);
    }
}

#[test]
fn auto_steps_down_to_io_uring_where_recvmmsg_is_refused_and_says_so() {
    if !strace_or_skip("auto_steps_down_to_io_uring_where_recvmmsg_is_refused_and_says_so") {
        return;
    }
    for (refusal, why) in NO_RECVMMSG {
        let why = ["a step down", "recvmmsg is refused", why];
        assert_auto_takes(where_refused(&[refusal]), "io-uring", &why);
    }
}

#[test]
fn auto_names_all_that_was_refused_where_nothing_is_left() {
    if !strace_or_skip("auto_names_all_that_was_refused_where_nothing_is_left") {
        return;
    }
    for (refusal, _) in NO_RECVMMSG {
        let errors = where_refused(&[NO_IO_URING, refusal]).refused(READY_LIMIT).errors;
        let words =
            ["no packet port can be used", "socket: recvmmsg is refused", "io-uring: io_uring is forbidden"];
        for word in words {
            assert!(errors.contains(word), "no `{word}` in:\n{errors}");
        }
    }
}
