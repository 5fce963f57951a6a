use super::agreement::agreement;
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn candidate(kind: Kind, offset_s: f64, distance_s: f64) -> Candidate {
    Candidate { kind, offset_s, distance_s, jitter_s: 1e-6, prefer: false, only_votes: false, unusable: None }
}
fn server(offset_s: f64, distance_s: f64) -> Candidate {
    candidate(Kind::Network, offset_s, distance_s)
}
fn receiver(offset_s: f64, distance_s: f64) -> Candidate {
    candidate(Kind::Reference, offset_s, distance_s)
}
const RULES: Rules = Rules { agree_min: 1, distance_max_s: 1.5, current: None };

fn is_followed(selection: &Selection, place: usize) -> bool {
    matches!(selection.verdicts[place], Verdict::Followed | Verdict::Combined)
}

#[test]
fn a_lone_source_is_believed_unless_more_are_demanded() {
    let alone = [receiver(0.2, 0.01)];
    let selection = select(&alone, &RULES);
    assert_eq!((selection.followed, selection.nobody, selection.agree), (Some(0), None, 1));
    assert_eq!(selection.interval, Some((0.2 - 0.01, 0.2 + 0.01)));
    let selection = select(&alone, &Rules { agree_min: 2, ..RULES });
    assert_eq!(selection.followed, None);
    assert_eq!(selection.nobody, Some(Nobody::TooFew { have: 1, want: 2 }));
    assert_eq!(selection.verdicts[0], Verdict::Agrees);
    assert_eq!(select(&[], &RULES).nobody, Some(Nobody::NoVoter));
}

#[test]
fn two_that_disagree_have_no_majority() {
    let selection = select(&[receiver(0.0, 0.01), server(0.1, 0.02)], &RULES);
    assert_eq!((selection.followed, selection.nobody), (None, Some(Nobody::NoMajority)));
    assert_eq!(selection.verdicts[..3], [Verdict::NoMajority, Verdict::NoMajority, Verdict::Absent]);
}

#[test]
fn a_falseticker_is_named_with_how_much() {
    let selection = select(&[receiver(1.0, 0.001), server(0.0, 0.02), server(0.005, 0.02)], &RULES);
    let Verdict::Falseticker { off_s } = selection.verdicts[0] else { panic!("{selection:?}") };
    assert!((off_s - 0.979).abs() < 1e-9, "{off_s}");
    assert!(is_followed(&selection, 1) && is_followed(&selection, 2));
}

#[test]
fn where_two_groups_are_equally_large_only_who_is_in_both_counts() {
    // The wide one agrees with either of the narrow ones, which exclude each other.
    let selection = select(&[server(0.0, 0.1), receiver(-0.05, 0.01), receiver(0.05, 0.01)], &RULES);
    assert_eq!(selection.verdicts[..3], [Verdict::Followed, Verdict::NoMajority, Verdict::NoMajority]);
    assert!(
        select(
            &[server(0.0, 0.1), receiver(-0.05, 0.01), receiver(0.05, 0.01)],
            &Rules { agree_min: 2, ..RULES }
        )
        .followed
        .is_none()
    );
}

#[test]
fn a_reference_outranks_the_network_which_still_votes() {
    let sources = [server(0.0, 0.01), server(0.001, 0.01), receiver(0.002, 0.3)];
    let selection = select(&sources, &RULES);
    assert_eq!((selection.followed, selection.combined), (Some(2), None));
    assert_eq!(selection.verdicts[..3], [Verdict::Agrees, Verdict::Agrees, Verdict::Followed]);
}

#[test]
fn a_pulse_counts_only_while_somebody_agrees_on_its_second() {
    let pulse = candidate(Kind::Pulse, 0.0, 1e-6);
    assert_eq!(select(&[pulse], &RULES).verdicts[0], Verdict::PulseWithoutSecond);
    assert_eq!(select(&[pulse], &RULES).nobody, Some(Nobody::NoVoter));
    assert_eq!(select(&[pulse, receiver(0.1, 0.3)], &RULES).followed, Some(0));
    assert_eq!(select(&[pulse, server(0.001, 0.3)], &RULES).followed, Some(0));
    let wrong = select(&[pulse, server(1.0, 0.02)], &RULES);
    assert!(
        matches!(wrong.verdicts[0], Verdict::Falseticker { .. }) && wrong.followed == Some(1),
        "{wrong:?}"
    );
    // It doesn't make a majority, nor count as one who agrees.
    assert_eq!(select(&[pulse, receiver(0.0, 0.3), server(1.0, 0.02)], &RULES).followed, None);
    assert_eq!(select(&[pulse, receiver(0.0, 0.3)], &Rules { agree_min: 2, ..RULES }).followed, None);
}

#[test]
fn equals_are_not_hopped_between_and_the_preferred_one_wins() {
    let mut sources = [receiver(0.0, 1.0e-3), receiver(0.0, 0.7e-3)];
    assert_eq!(select(&sources, &RULES).followed, Some(1));
    let follows_first = Rules { current: Some(0), ..RULES };
    assert_eq!(select(&sources, &follows_first).followed, Some(0), "not clearly better");
    sources[1].distance_s = 0.66e-3;
    assert_eq!(select(&sources, &follows_first).followed, Some(1));
    sources[0].prefer = true;
    assert_eq!(select(&sources, &RULES).followed, Some(0));
    sources[0].unusable = Some(Unusable::Unreachable);
    assert_eq!(select(&sources, &follows_first).followed, Some(1));
}

#[test]
fn the_unfit_have_no_say() {
    let mut sources = [receiver(5.0, 0.01), receiver(0.0, 2.0), receiver(f64::NAN, 0.1), server(0.0, 0.01)];
    sources[0].unusable = Some(Unusable::Invalid);
    let selection = select(&sources, &RULES);
    assert_eq!(selection.verdicts[0], Verdict::Unusable(Unusable::Invalid));
    assert_eq!(selection.verdicts[1], Verdict::TooDistant { distance_s: 2.0, most_s: 1.5 });
    assert_eq!(selection.verdicts[2], Verdict::Unusable(Unusable::NoNumber));
    assert_eq!(selection.followed, Some(3));
    let said = std::format!("{}", selection.verdicts[1]);
    assert_eq!(said, "may be 2.000 s off, 1.500 s is allowed");
}

#[test]
fn servers_are_thinned_out_to_three_and_averaged() {
    let mut sources = [0.000, 0.001, -0.001, 0.009, 0.0005].map(|offset_s| server(offset_s, 0.02));
    sources[2].distance_s = 0.01;
    let selection = select(&sources, &RULES);
    assert_eq!(selection.verdicts[3], Verdict::Outlier);
    let left = (0..5).filter(|place| is_followed(&selection, *place)).count();
    assert_eq!((left, selection.followed, selection.agree), (3, Some(0), 5), "{selection:?}");
    let combined = selection.combined.unwrap();
    assert!((combined.offset_s - 0.0005).abs() < 1e-12, "{combined:?}");
    assert!(
        (combined.jitter_s - (1e-6 / 3.0 + 0.25e-6 / 3.0 + 1e-12_f64).sqrt()).abs() < 1e-9,
        "{combined:?}"
    );
    assert!((combined.distance_s - 0.0205).abs() < 1e-12, "{combined:?}");
    // Nobody is left out for what its own jitter explains.
    sources.iter_mut().for_each(|source| source.jitter_s = 0.1);
    assert!((0..5).all(|place| is_followed(&select(&sources, &RULES), place)));
    // A preferred one stays and is followed alone.
    sources.iter_mut().for_each(|source| source.jitter_s = 1e-6);
    sources[3].prefer = true;
    let combined = select(&sources, &RULES).combined.unwrap();
    assert!((combined.offset_s - 0.009).abs() < 1e-12, "{combined:?}");
}

#[test]
fn the_average_weighs_by_the_reciprocal_of_distance() {
    let combined = select(&[server(0.0, 0.01), server(0.004, 0.03)], &RULES).combined.unwrap();
    assert!((combined.offset_s - 0.001).abs() < 1e-12, "{combined:?}");
    assert!((combined.distance_s - 0.033).abs() < 1e-12, "{combined:?}");
}

/// The largest groups that share a moment, found by trying every subset: their size, and the span of their shared
/// moments where that size reaches `count`.
fn by_subsets(voters: &[Reach], count: Option<usize>) -> (usize, f64, f64) {
    let mut shared: Vec<(usize, f64, f64)> = Vec::new();
    for subset in 1_u32..1 << voters.len() {
        let members = voters.iter().enumerate().filter(|(place, _)| subset >> place & 1 == 1);
        let (low, high) = members.fold((f64::NEG_INFINITY, f64::INFINITY), |(low, high), (_, voter)| {
            (low.max(voter.low), high.min(voter.high))
        });
        if low <= high {
            shared.push((usize::try_from(subset.count_ones()).unwrap(), low, high));
        }
    }
    let most = shared.iter().map(|(size, ..)| *size).max().unwrap();
    let at_least = count.unwrap_or(most);
    let large = || shared.iter().filter(|(size, ..)| *size >= at_least);
    let low = large().map(|(_, low, _)| *low).fold(f64::INFINITY, f64::min);
    (most, low, large().map(|(.., high)| *high).fold(f64::NEG_INFINITY, f64::max))
}

/// Whole numbers, so that ends meet often.
fn reach() -> impl Strategy<Value = Reach> {
    (-20_i32..20, 0_i32..12)
        .prop_map(|(low, width)| Reach { low: f64::from(low), high: f64::from(low + width) })
}

fn of_reach(kind: Kind, reach: &Reach) -> Candidate {
    candidate(kind, (reach.low + reach.high) / 2.0, (reach.high - reach.low) / 2.0)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Reference), Just(Kind::Network)]
}

const ANY_DISTANCE: Rules = Rules { agree_min: 1, distance_max_s: 100.0, current: None };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_agreement_is_that_of_the_largest_subsets(voters in prop::collection::vec(reach(), 1..8)) {
        let mut table = [None; SOURCES_MAX];
        for (slot, voter) in table.iter_mut().zip(&voters) {
            *slot = Some(*voter);
        }
        let (most, low, high) = by_subsets(&voters, None);
        let found = agreement(&table);
        prop_assert_eq!(found.is_some(), 2 * most > voters.len());
        if let Some(found) = found {
            prop_assert_eq!(found.agreed, Reach { low, high });
            let (_, low, high) = by_subsets(&voters, Some(voters.len() / 2 + 1));
            prop_assert_eq!(found.majority, Reach { low, high });
            prop_assert!(voters.iter().any(|voter| voter.covers(&found.agreed)));
        }
    }

    /// Honest intervals hold the truth, which is 0. Liars are fewer and say anything at all.
    #[test]
    fn the_interval_holds_the_truth_whatever_a_minority_says(
        honest in prop::collection::vec((0_i32..9, 0_i32..9, kind()), 1..6),
        liars in prop::collection::vec((reach(), kind()), 0..5),
        seed in any::<u64>(),
    ) {
        let liars = liars.into_iter().take(honest.len() - 1);
        let mut sources: Vec<Candidate> = honest
            .iter()
            .map(|(below, above, kind)| of_reach(*kind, &Reach { low: f64::from(-below), high: f64::from(*above) }))
            .chain(liars.map(|(reach, kind)| of_reach(kind, &reach)))
            .collect();
        let turn = usize::try_from(seed % 16).unwrap() % sources.len();
        sources.rotate_left(turn);
        let selection = select(&sources, &ANY_DISTANCE);
        let (low, high) = selection.interval.expect("a majority holds the truth");
        prop_assert!(low <= 0.0 && 0.0 <= high, "{:?}", selection);
        prop_assert!(selection.followed.is_some());
    }

    /// Liars that disagree with every honest source are never followed; all honest ones are found right.
    #[test]
    fn no_liar_is_followed_while_the_majority_is_honest(
        honest in prop::collection::vec((0_i32..9, 0_i32..9, kind()), 1..6),
        liars in prop::collection::vec((10_i32..20, 0_i32..9, any::<bool>(), kind(), any::<bool>()), 0..5),
    ) {
        let liars = liars.into_iter().take(honest.len() - 1);
        let honest_count = honest.len();
        let mut sources: Vec<Candidate> = honest
            .iter()
            .map(|(below, above, kind)| of_reach(*kind, &Reach { low: f64::from(-below), high: f64::from(*above) }))
            .collect();
        for (from, width, is_low, kind, prefer) in liars {
            let far = Reach { low: f64::from(from), high: f64::from(from + width) };
            let near = Reach { low: -far.high, high: -far.low };
            sources.push(Candidate { prefer, ..of_reach(kind, if is_low { &near } else { &far }) });
        }
        let selection = select(&sources, &ANY_DISTANCE);
        prop_assert!(selection.followed.is_some_and(|place| place < honest_count), "{:?}", selection);
        prop_assert_eq!(selection.agree, honest_count);
        for place in honest_count..sources.len() {
            let off = matches!(selection.verdicts[place], Verdict::Falseticker { off_s } if off_s > 0.0);
            prop_assert!(off, "{:?}", selection);
        }
    }

    #[test]
    fn numbers_of_any_kind_are_survived(
        words in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>(), any::<bool>()), 0..20),
        current in prop::option::of(any::<usize>()),
        agree_min in any::<usize>(),
    ) {
        let sources: Vec<Candidate> = words
            .iter()
            .map(|(offset_s, distance_s, jitter_s, prefer)| Candidate {
                jitter_s: *jitter_s, prefer: *prefer, ..server(*offset_s, *distance_s)
            })
            .collect();
        let selection = select(&sources, &Rules { agree_min, distance_max_s: f64::INFINITY,  current });
        prop_assert_eq!(selection.followed.is_none(), selection.nobody.is_some());
    }
}
