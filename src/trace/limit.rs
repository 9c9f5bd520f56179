//! How many events a second go out. What is over the limit is counted, and the count is told.

const SECOND: u64 = 1_000_000_000;

/// A limit for each second of device time.
#[derive(Debug)]
pub(super) struct Limit {
    /// Events a second; zero: no limit.
    most: u32,
    second: u64,
    taken: u32,
    dropped: u64,
}

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It goes out.
    pub take: bool,
    /// So many were dropped in a second that is over now: say so first.
    pub dropped: u64,
}

impl Limit {
    pub fn new(most: u32) -> Self {
        Self { most, second: 0, taken: 0, dropped: 0 }
    }

    /// An event at `now_ns`.
    pub fn event(&mut self, now_ns: u64) -> Verdict {
        let mut dropped = 0;
        // Several threads tell: what happened just before the second's turn may come behind it.
        if now_ns / SECOND > self.second {
            (self.second, self.taken) = (now_ns / SECOND, 0);
            dropped = self.rest();
        }
        let take = self.most == 0 || self.taken < self.most;
        self.taken += u32::from(take);
        self.dropped += u64::from(!take);
        Verdict { take, dropped }
    }

    /// What was dropped and not told yet.
    pub fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_counted_and_told_in_the_next_second() {
        let mut limit = Limit::new(2);
        let taken: Vec<bool> = (0..5).map(|n| limit.event(n).take).collect();
        assert_eq!(taken, [true, true, false, false, false]);
        assert_eq!(limit.event(SECOND), Verdict { take: true, dropped: 3 });
        assert_eq!(limit.event(SECOND + 1), Verdict { take: true, dropped: 0 });
        assert!(!limit.event(SECOND + 2).take);
        assert_eq!(limit.rest(), 1);
        let mut late = Limit::new(1);
        let taken: Vec<bool> = [SECOND, SECOND - 1, SECOND, SECOND - 1].map(|at| late.event(at).take).into();
        assert_eq!(taken, [true, false, false, false]);
        let mut all = Limit::new(0);
        assert!((0..1000).all(|n| all.event(n).take));
    }
}
