//! When a fault strikes: of the events that it could hit, those that its schedule chooses.
//!
//! Used by whatever misbehaves on request (`netdev::filter`, `nic`). Pure and repeatable: the choice depends on the
//! schedule and the number of events alone.

mod cable;
mod card;

pub use cable::{CableEffect, CableHit, CableListener, FrameEffect};
pub use card::CardFault;

/// A million is always.
pub const ALWAYS: u32 = 1_000_000;

/// Which events are hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Events let alone at first.
    pub skip: u64,
    /// Then each how-many-th may be hit: 1 is each. Zero counts as 1.
    pub every: u64,
    /// The chance of those, in millionths.
    pub rate: u32,
    /// How many are hit at most.
    pub count: u64,
    /// Of the chance.
    pub seed: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { skip: 0, every: 1, rate: ALWAYS, count: u64::MAX, seed: 1 }
    }
}

/// A schedule in use.
#[derive(Debug)]
pub struct Chooser {
    schedule: Schedule,
    chance: fastrand::Rng,
    seen: u64,
    hit: u64,
}

impl Chooser {
    /// From the beginning.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, chance: fastrand::Rng::with_seed(schedule.seed), seen: 0, hit: 0 }
    }

    /// An event: whether it is hit.
    pub fn strikes(&mut self) -> bool {
        let Schedule { skip, every, rate, count, .. } = self.schedule;
        self.seen = self.seen.saturating_add(1);
        let hit = self.hit < count
            && self.seen > skip
            && (self.seen - skip - 1).is_multiple_of(every.max(1))
            && (rate >= ALWAYS || self.chance.u32(0..ALWAYS) < rate);
        self.hit += u64::from(hit);
        hit
    }

    /// A number below `limit` from the schedule's own chance, for what is done to the event; zero if that is zero.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { self.chance.usize(0..limit) }
    }

    /// Of its chance.
    pub fn seed(&self) -> u64 {
        self.schedule.seed
    }

    /// Events that have been hit, and all that there were.
    pub fn counts(&self) -> (u64, u64) {
        (self.hit, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(schedule: Schedule, events: usize) -> Vec<usize> {
        let mut chooser = Chooser::new(schedule);
        (0..events).filter(|_| chooser.strikes()).collect()
    }

    #[test]
    fn each_event_is_hit_by_default() {
        assert_eq!(hits(Schedule::default(), 4), [0, 1, 2, 3]);
    }

    #[test]
    fn skip_every_and_count_choose_by_number() {
        let schedule = Schedule { skip: 2, every: 3, count: 2, ..Schedule::default() };
        assert_eq!(hits(schedule, 20), [2, 5]);
    }

    #[test]
    fn a_rate_is_kept_and_the_seed_decides_which() {
        let schedule = |seed| Schedule { rate: ALWAYS / 10, seed, ..Schedule::default() };
        let first = hits(schedule(1), 100_000);
        assert!((9_500..10_500).contains(&first.len()), "{} of 100000", first.len());
        assert_eq!(first, hits(schedule(1), 100_000));
        assert_ne!(first, hits(schedule(2), 100_000));
        assert_eq!(hits(Schedule { rate: 0, ..Schedule::default() }, 1000), [0usize; 0]);
    }

    #[test]
    fn what_was_hit_and_what_was_not_is_counted() {
        let mut chooser = Chooser::new(Schedule { count: 1, ..Schedule::default() });
        assert!(chooser.strikes() && !chooser.strikes());
        assert_eq!(chooser.counts(), (1, 2));
    }
}
