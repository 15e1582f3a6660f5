//! How many requests one address may make: a bucket each, in a table of bounded size.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Buckets by address: [`BURST`] requests at once, and [`EVERY`] one more.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    buckets: HashMap<IpAddr, Bucket>,
    /// For those who come while the table is full of others.
    shared: Option<Bucket>,
}

/// When it will be full again: now or earlier if it is.
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

/// 50 requests a second: a page makes two for each viewer.
const EVERY: Duration = Duration::from_millis(20);

/// A wall of browsers behind one NAT may start together: 200 sessions with a trickled candidate each.
const BURST: u32 = 400;

/// An entry takes about 50 bytes: half a megabyte in all.
const BUCKETS_MAX: usize = 10_000;

impl RateLimit {
    /// Takes one request of `from`.
    ///
    /// # Errors
    /// How long to wait before the next one would be taken.
    pub(super) fn take(&mut self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = subscriber(from);
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&from) {
            self.buckets.retain(|_, bucket| bucket.0 > now);
        }
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&from) {
            return self.shared.get_or_insert(Bucket(now)).take(now);
        }
        self.buckets.entry(from).or_insert(Bucket(now)).take(now)
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full = self.0.max(now) + EVERY;
        let wait = full.saturating_duration_since(now).saturating_sub(EVERY * BURST);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.0 = full;
        Ok(())
    }
}

/// Who has an IPv6 address has its /64 at least (RFC 6177 §2).
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use relay_graph::Clock;

    use super::*;

    fn address(index: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + index).into()
    }

    /// How many of `tries` requests at `now` are taken.
    fn taken(limit: &mut RateLimit, from: IpAddr, now: Instant, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(limit.take(from, now).is_ok())).sum()
    }

    #[test]
    fn a_burst_then_a_steady_rate_for_each_address_alone() {
        let start = Clock::system().now();
        let mut limit = RateLimit::default();
        assert_eq!(taken(&mut limit, address(1), start, 1_000), BURST);
        assert_eq!(limit.take(address(1), start), Err(EVERY));
        assert_eq!(taken(&mut limit, address(1), start + EVERY, 5), 1);
        assert_eq!(taken(&mut limit, address(1), start + Duration::from_secs(1), 1_000), 49);
        assert_eq!(taken(&mut limit, address(1), start + Duration::from_secs(60), 1_000), BURST);
        assert_eq!(taken(&mut limit, address(2), start, 10), 10);
    }

    #[test]
    fn addresses_of_one_subscriber_share_a_bucket() {
        let start = Clock::system().now();
        for (a, b, shared) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            let [a, b] = [a, b].map(|text| text.parse::<IpAddr>().expect("an address"));
            let mut limit = RateLimit::default();
            taken(&mut limit, a, start, BURST);
            assert_eq!(limit.take(b, start).is_err(), shared, "{a} {b}");
        }
    }

    #[test]
    fn a_full_table_makes_room_or_shares() {
        let start = Clock::system().now();
        let mut limit = RateLimit::default();
        for index in 0..u32::try_from(BUCKETS_MAX).expect("small") {
            limit.take(address(index), start).expect("its first");
        }
        // Those beyond share one bucket…
        let beyond: u32 = (0..1_000).map(|index| taken(&mut limit, address(1_000_000 + index), start, 1)).sum();
        assert_eq!((beyond, limit.buckets.len()), (BURST, BUCKETS_MAX));
        // … those within have theirs, and room is made as buckets fill up again.
        assert_eq!(taken(&mut limit, address(7), start, 1_000), BURST - 1);
        assert!(limit.take(address(2_000_000), start + EVERY).is_ok());
        assert_eq!(limit.buckets.len(), 2);
    }
}
