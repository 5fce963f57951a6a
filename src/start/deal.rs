//! Which worker takes which queues: dealt in turn over the workers' cores, those near the NIC first.

use std::fs;

/// What an interface brings to the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hand {
    /// How many queues it has.
    pub(super) queues: u32,
    /// The cores of its NUMA node; empty where the machine has but one, or doesn't say.
    pub(super) near: Vec<usize>,
}

/// A queue of an interface, by the interface's place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) interface: usize,
    pub(super) queue: u32,
}

/// Each queue to the core that has the fewest so far, of these to one that is near, of these to the first: in turn, and
/// even over several interfaces. Gives the cores that own a queue, in the order of `cores`.
pub(super) fn deal(cores: &[usize], hands: &[Hand]) -> Vec<(usize, Vec<Place>)> {
    let mut shares: Vec<(usize, Vec<Place>)> = cores.iter().map(|&core| (core, Vec::new())).collect();
    for (interface, hand) in hands.iter().enumerate() {
        for queue in 0..hand.queues {
            let next = shares.iter_mut().min_by_key(|(core, owned)| (owned.len(), !hand.near.contains(core)));
            if let Some((_, owned)) = next {
                owned.push(Place { interface, queue });
            }
        }
    }
    shares.retain(|(_, owned)| !owned.is_empty());
    shares
}

/// The cores of a NUMA node (Linux, `Documentation/ABI/stable/sysfs-devices-node`); none where the machine doesn't say.
pub(super) fn cores_of_node(node: u32) -> Vec<usize> {
    let list = fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"));
    list.map(|list| cores_in(&list)).unwrap_or_default()
}

/// The kernel's list format: `0-3,8`.
fn cores_in(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().take(crate::config::CORE_MAX + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(cores: &[usize], hands: &[(u32, &[usize])]) -> Vec<(usize, Vec<(usize, u32)>)> {
        let hands: Vec<Hand> =
            hands.iter().map(|&(queues, near)| Hand { queues, near: near.to_vec() }).collect();
        let shares = deal(cores, &hands).into_iter();
        shares
            .map(|(core, owned)| (core, owned.iter().map(|place| (place.interface, place.queue)).collect()))
            .collect()
    }

    #[test]
    fn queues_are_dealt_in_turn_and_a_core_without_one_gets_no_worker() {
        assert_eq!(dealt(&[0, 1], &[(4, &[])]), [(0, vec![(0, 0), (0, 2)]), (1, vec![(0, 1), (0, 3)])]);
        assert_eq!(dealt(&[5, 3, 1], &[(1, &[])]), [(5, vec![(0, 0)])]);
        assert_eq!(dealt(&[0, 1], &[]), []);
    }

    #[test]
    fn cores_near_the_nic_come_first_and_the_load_stays_even() {
        assert_eq!(dealt(&[0, 1, 2, 3], &[(2, &[2, 3])]), [(2, vec![(0, 0)]), (3, vec![(0, 1)])]);
        assert_eq!(
            dealt(&[0, 1, 2], &[(4, &[2])]),
            [(0, vec![(0, 1)]), (1, vec![(0, 2)]), (2, vec![(0, 0), (0, 3)])]
        );
        // The second interface begins where the first left off.
        assert_eq!(dealt(&[0, 1], &[(1, &[]), (1, &[0, 1])]), [(0, vec![(0, 0)]), (1, vec![(1, 0)])]);
    }

    #[test]
    fn a_list_of_cores_is_read_as_the_kernel_writes_it() {
        assert_eq!(cores_in("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(cores_in("7\n"), [7]);
        assert_eq!(cores_in("\n"), Vec::<usize>::new());
        assert!(cores_in("0-99999999999").len() <= 1 + crate::config::CORE_MAX);
    }
}
