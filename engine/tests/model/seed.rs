//! Which sequences a run plays. Guards that a run can be had again, and that continuous integration judges the change that it
//! is given and not its luck: there every run plays the same ones, at a desk each run plays new ones.

use rand::RngExt;

/// The first sequence in continuous integration: the day on which this was agreed.
const IN_CI: u64 = 20_261_122;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn first(again: Option<u64>, in_ci: bool) -> u64 {
    match again {
        Some(seed) => seed,
        None if in_ci => IN_CI,
        None => rand::rng().random_range(0..1 << 48),
    }
}

/// The first sequence, and how many there are unless somebody says otherwise; one that is played again is played alone.
pub(crate) fn sequences(many: u64) -> (u64, u64) {
    let again = number("LEASEHOLD_SEED");
    let in_ci = std::env::var_os("CI").is_some_and(|said| !said.is_empty());
    let many = number("LEASEHOLD_SEQUENCES").unwrap_or(if again.is_some() { 1 } else { many });
    (first(again, in_ci), many)
}

#[test]
fn continuous_integration_plays_the_same_sequences_each_time_and_a_desk_plays_new_ones() {
    assert_eq!(first(None, true), first(None, true));
    assert_eq!((first(Some(7), true), first(Some(7), false)), (7, 7), "LEASEHOLD_SEED has its way everywhere");
    let at_a_desk: std::collections::BTreeSet<u64> = (0..5).map(|_| first(None, false)).collect();
    assert!(at_a_desk.len() > 1);
}
