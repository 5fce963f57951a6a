//! What the sockets are: steered, exclusive, with buffers of the size that they say.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket as Client};
use std::process::Command;

use maser_sys::datagram::Wait;
use maser_sys::mmsg::MmsgPort;
use maser_sys::udp_socket::{OpenError, SocketOptions, Steering, UdpSocket};

use crate::{Port, address, is_root, options, peer};

/// Which workers of a group of four each client meets, when it sends from eight ports.
fn homes(group: &str, to: &str, clients: &[IpAddr]) -> HashMap<IpAddr, HashSet<usize>> {
    let sockets = UdpSocket::open_group(address(group), 4, Steering::new(0x9E37_79B1), options()).unwrap();
    let to = SocketAddr::new(to.parse().unwrap(), sockets[0].address().port());
    let mut ports: Vec<MmsgPort> =
        sockets.into_iter().map(|socket| MmsgPort::over(vec![socket], 64)).collect();
    for client in clients {
        for _ in 0..8 {
            Client::bind((*client, 0)).unwrap().send_to(&[1; 48], to).unwrap();
        }
    }
    let mut homes: HashMap<IpAddr, HashSet<usize>> = HashMap::new();
    let mut received = 0;
    for (worker, port) in ports.iter_mut().enumerate() {
        while let count @ 1.. = port.receive(Wait::Poll).unwrap() {
            received += count;
            for index in 0..count {
                homes.entry(peer(&port.datagram(index).0).source.ip()).or_default().insert(worker);
            }
        }
    }
    assert_eq!((received, homes.len()), (8 * clients.len(), clients.len()));
    homes
}

/// 64 clients over 4 workers are 16 each, give or take three standard deviations.
fn assert_spread(homes: &HashMap<IpAddr, HashSet<usize>>) {
    for worker in 0..4 {
        let share = homes.values().filter(|workers| workers.contains(&worker)).count();
        assert!((5..=27).contains(&share), "worker {worker} has {share} of 64");
    }
}

#[test]
fn a_client_meets_one_socket_whatever_its_port() {
    let clients: Vec<IpAddr> = (0..64).map(|n| IpAddr::from([127, 0, n / 8, 1 + n % 8])).collect();
    let homes = homes("0.0.0.0:0", "127.0.0.1", &clients);
    assert!(homes.values().all(|workers| workers.len() == 1), "{homes:?}");
    assert_spread(&homes);
}

#[test]
fn without_steering_a_client_meets_several() {
    // The oracle above fails on the kernel's own choice, which hashes the port too.
    let first = unsteered(address("127.0.0.1:0"));
    let to = first.local_addr().unwrap();
    let others: Vec<Client> = (0..3).map(|_| unsteered(to)).collect();
    for _ in 0..64 {
        Client::bind("127.0.0.1:0").unwrap().send_to(&[1], to).unwrap();
    }
    let met = others.iter().chain([&first]).filter(|socket| socket.recv(&mut [0; 8]).is_ok()).count();
    assert!(met > 1, "64 ports met {met} socket");
}

/// A socket that shares its port and has no steering.
fn unsteered(address: SocketAddr) -> Client {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_NONBLOCK, None).unwrap();
    setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    Client::from(fd)
}

#[test]
fn an_ipv6_client_is_its_upper_64_bits() {
    if !is_root("a network namespace") {
        return;
    }
    // In a thread of its own, which the namespace ends with.
    let thread = std::thread::spawn(|| {
        // SAFETY: it takes plain flags, and this thread shares no file system state with what it leaves.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
        for arguments in ["link set lo up", "-6 route add local 2001:db8::/32 dev lo"] {
            assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
        }
        // Two hosts in each of 64 networks.
        let host = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, host, 0, 0, 1]);
        let clients: Vec<IpAddr> =
            (0..64).flat_map(|network| [host(network, 1), host(network, 0xffff)]).collect();
        let homes = homes("[::]:0", "::1", &clients);
        assert!(homes.values().all(|workers| workers.len() == 1), "{homes:?}");
        assert!(
            (0..64).all(|network| homes[&host(network, 1)] == homes[&host(network, 0xffff)]),
            "{homes:?}"
        );
        assert_spread(&clients.iter().step_by(2).map(|client| (*client, homes[client].clone())).collect());
    });
    thread.join().unwrap();
}

#[test]
fn a_port_in_use_is_noticed_although_groups_share_theirs() {
    let group = UdpSocket::open_group(address("127.0.0.1:0"), 2, Steering::new(3), options()).unwrap();
    let taken = group[0].address();
    assert_eq!(group[1].address(), taken);
    let error = UdpSocket::open_group(taken, 2, Steering::new(3), options()).unwrap_err();
    assert_eq!(error, OpenError::PortInUse(taken));
    let message = error.to_string();
    assert!(message.contains(&format!("ss -ulpn 'sport = :{}'", taken.port())), "{message}");
    let wildcard = SocketAddr::new([0, 0, 0, 0].into(), taken.port());
    assert_eq!(
        UdpSocket::open_group(wildcard, 1, Steering::new(3), options()).unwrap_err(),
        OpenError::PortInUse(wildcard)
    );
}

#[test]
fn a_privileged_port_says_what_it_takes() {
    if !is_root("giving up privileges") {
        return;
    }
    let privileged = address("127.0.0.1:123");
    let thread = std::thread::spawn(move || {
        // SAFETY: it takes plain numbers; unlike the C library's function it changes this thread only.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 65_534, -1) }, 0);
        UdpSocket::open_group(privileged, 1, Steering::new(1), options()).unwrap_err()
    });
    let error = thread.join().unwrap();
    assert_eq!(error, OpenError::NoPrivilege(privileged));
    assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"), "{error}");
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let nowhere = address("192.0.2.1:0");
    assert_eq!(UdpSocket::open(nowhere, options()).unwrap_err(), OpenError::AddressNotHere(nowhere));
    assert_eq!(
        UdpSocket::open_group(address("127.0.0.1:0"), 0, Steering::new(1), options()).unwrap_err(),
        OpenError::GroupSize { workers: 0 }
    );
}

#[test]
fn a_receive_buffer_says_what_was_granted() {
    let socket =
        UdpSocket::open(address("127.0.0.1:0"), SocketOptions { receive_buffer: 64 << 10, ..options() });
    assert_eq!(socket.unwrap().receive_buffer(), 64 << 10);
    let socket = UdpSocket::open(address("127.0.0.1:0"), SocketOptions { receive_buffer: 1, ..options() });
    assert!(socket.unwrap().receive_buffer() > 1);
}
