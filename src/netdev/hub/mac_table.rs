//! Which station is behind which port of a hub that learns: bounded and aged.
//!
//! Time comes from the caller. One port's stations never push out another's: each has its own share.

use std::collections::HashMap;

/// A station that sent nothing for this long is forgotten (IEEE 802.1D's default ageing time).
const AGE_NS: u64 = 300 * 1_000_000_000;
/// Stations remembered for one port. A port beyond that is flooded for the rest, as on any switch.
const SHARE: usize = 1024;
/// How often a full port looks for old stations: a flood of addresses must not make every frame do so.
const AGE_EVERY_NS: u64 = 1_000_000_000;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Stations by address. Ports are told apart by numbers of the caller's.
#[derive(Debug, Default)]
pub(super) struct MacTable {
    stations: HashMap<Mac, Station>,
    /// How many stations each port has.
    shares: HashMap<u64, usize>,
    /// When old stations were looked for last.
    aged_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Station {
    port: u64,
    seen_ns: u64,
}

impl MacTable {
    /// A frame from `mac` came in by `port`. Group addresses are no stations.
    pub(super) fn learn(&mut self, mac: Mac, port: u64, now_ns: u64) {
        if is_group(mac) {
            return;
        }
        if let Some(station) = self.stations.get_mut(&mac).filter(|station| station.port == port) {
            station.seen_ns = now_ns;
            return;
        }
        if self.share(port) >= SHARE && now_ns.saturating_sub(self.aged_ns) >= AGE_EVERY_NS {
            self.age(now_ns);
        }
        if self.share(port) < SHARE {
            self.forget(mac);
            self.stations.insert(mac, Station { port, seen_ns: now_ns });
            *self.shares.entry(port).or_default() += 1;
        }
    }

    /// The port behind which `mac` was seen last; None: all of them have to get the frame.
    pub(super) fn port_of(&self, mac: Mac, now_ns: u64) -> Option<u64> {
        self.stations.get(&mac).filter(|station| station.is_fresh(now_ns)).map(|station| station.port)
    }

    /// Forgets what is behind `port`.
    pub(super) fn flush(&mut self, port: u64) {
        self.stations.retain(|_, station| station.port != port);
        self.shares.remove(&port);
    }

    /// All stations that are fresh: address, port, age in ns; sorted by address.
    pub(super) fn list(&self, now_ns: u64) -> Vec<(Mac, u64, u64)> {
        let fresh = self.stations.iter().filter(|(_, station)| station.is_fresh(now_ns));
        let mut list: Vec<_> = fresh
            .map(|(mac, station)| (*mac, station.port, now_ns.saturating_sub(station.seen_ns)))
            .collect();
        list.sort_unstable();
        list
    }

    fn share(&self, port: u64) -> usize {
        self.shares.get(&port).copied().unwrap_or_default()
    }

    fn forget(&mut self, mac: Mac) {
        if let Some(old) = self.stations.remove(&mac)
            && let Some(share) = self.shares.get_mut(&old.port)
        {
            *share -= 1;
        }
    }

    fn age(&mut self, now_ns: u64) {
        let Self { stations, shares, aged_ns } = self;
        *aged_ns = now_ns;
        stations.retain(|_, station| station.is_fresh(now_ns));
        shares.clear();
        stations.values().for_each(|station| *shares.entry(station.port).or_default() += 1);
    }
}

impl Station {
    fn is_fresh(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.seen_ns) < AGE_NS
    }
}

/// Broadcast and multicast.
pub(super) fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_station_is_where_it_was_heard_last_until_it_is_old() {
        let mut table = MacTable::default();
        table.learn(A, 1, 0);
        table.learn(A, 2, 5);
        assert_eq!(table.port_of(A, 5), Some(2));
        assert_eq!(table.list(6), [(A, 2, 1)]);
        assert_eq!(table.port_of(A, 4 + AGE_NS), Some(2));
        assert_eq!(table.port_of(A, 5 + AGE_NS), None);
        table.learn(A, 2, 6 + AGE_NS);
        assert_eq!(table.port_of(A, 6 + AGE_NS), Some(2));
        table.flush(2);
        assert_eq!(table.port_of(A, 6 + AGE_NS), None);
        table.learn([0xff; 6], 1, 0);
        assert_eq!(table.port_of([0xff; 6], 0), None);
    }

    #[test]
    fn a_flood_of_addresses_fills_its_ports_share_and_no_more() {
        let mut table = MacTable::default();
        table.learn(A, 1, 0);
        let mac = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            [6, 0, a, b, c, d]
        };
        for n in 0..100_000 {
            table.learn(mac(n), 2, 1);
        }
        assert_eq!(table.stations.len(), SHARE + 1);
        assert_eq!((table.port_of(A, 2), table.port_of(mac(0), 2)), (Some(1), Some(2)));
        assert_eq!(table.port_of(mac(99_999), 2), None, "unknown: flooded");
        table.learn(mac(99_999), 2, 2 + AGE_NS);
        assert_eq!(table.stations.len(), 1, "the old ones made room");
        assert_eq!(table.shares.values().sum::<usize>(), 1);
    }
}
