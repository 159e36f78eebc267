//! Senders: the address that limits and log lines use, and how much one address may hold of what
//! all senders share.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use cognigy_core::Headers;
use ipnet::IpNet;

use super::SENDERS_PART;

/// The address of a request whose socket has none.
pub const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The proxies whose `X-Forwarded-For` counts.
///
/// ```
/// use std::net::IpAddr;
///
/// use cognigy_service::admission::TrustedProxies;
///
/// let proxies = TrustedProxies::new(&["10.0.0.0/8".parse()?]);
/// let proxy: IpAddr = "10.0.0.2".parse()?;
/// // What a sender has written to the left of the proxy's own entry does not count.
/// let headers = [("X-Forwarded-For", "198.51.100.1, 203.0.113.9")];
/// assert_eq!(proxies.sender(proxy, &headers), "203.0.113.9".parse::<IpAddr>()?);
///
/// let elsewhere: IpAddr = "192.0.2.7".parse()?; // no proxy of ours: its header means nothing
/// assert_eq!(proxies.sender(elsewhere, &headers), elsewhere);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// These networks are trusted.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether `address` is a trusted proxy.
    #[must_use]
    pub fn include(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The sender of the request that came from `socket`: the socket's peer, unless that is a
    /// trusted proxy. Behind a trusted proxy the header is read from its right end, where the
    /// nearest proxy has written. The first address that is no trusted proxy is the sender's. An
    /// entry that is no address ends the search: a forger may have written it, and the entries to
    /// its left.
    pub fn sender(&self, socket: IpAddr, headers: &dyn Headers) -> IpAddr {
        let mut sender = socket.to_canonical();
        if !self.include(sender) {
            return sender;
        }
        // In one piece: the lines of a header are one list (RFC 9110, section 5.3).
        let mut list = Vec::new();
        headers.visit("x-forwarded-for", &mut |line| {
            if !list.is_empty() {
                list.push(b',');
            }
            list.extend_from_slice(line);
        });
        if list.is_empty() {
            return sender;
        }
        for entry in list.rsplit(|&b| b == b',') {
            let Some(address) = address(entry) else { return sender };
            sender = address;
            if !self.include(address) {
                break;
            }
        }
        sender
    }
}

/// Reads `192.0.2.1` or `2001:db8::1`, also with a port, as some proxies write it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// The address that stands for one sender in limits: an IPv4 address, or a /64 of IPv6, which is
/// what one host has.
///
/// ```
/// use cognigy_service::admission::group;
///
/// // One host has a /64 of IPv6, and may send from any address in it.
/// let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
/// assert_eq!(group(one), group(other));
/// ```
#[must_use]
pub fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// How much each sender may hold of something that all senders share.
///
/// ```
/// use cognigy_service::admission::Shares;
///
/// // Every sender may have 100 bytes in hand.
/// let shares = Shares::of(100);
/// let (ada, bob) = ("203.0.113.1".parse()?, "203.0.113.2".parse()?);
/// let mut held = shares.share(ada);
/// assert!(held.grow_to(100).is_ok());
/// assert!(shares.share(ada).grow_to(1).is_err());
/// assert!(shares.share(bob).grow_to(100).is_ok()); // another sender has its own share
/// drop(held); // given back
/// assert!(shares.share(ada).grow_to(1).is_ok());
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct Shares {
    limit: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

impl Shares {
    /// Every sender may hold at most `limit`.
    #[must_use]
    pub fn of(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: Mutex::default() })
    }

    /// Where there may be `requests` with bodies that are not complete at once, how many of them each sender
    /// may have: half. The other half is left to all other senders.
    #[must_use]
    pub(crate) fn of_requests(requests: usize) -> Arc<Self> {
        Self::of((requests / SENDERS_PART).max(1))
    }

    /// A share for `sender` that holds nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>, sender: IpAddr) -> Share {
        Share { shares: Arc::clone(self), sender: group(sender), amount: 0 }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sender holds as much as it may.
#[derive(Debug)]
pub struct UsedUp;

/// What one request holds of its sender's share. It is given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    sender: IpAddr,
    amount: usize,
}

impl Share {
    /// Holds `amount` in all.
    ///
    /// # Errors
    ///
    /// That is more than the sender may hold. It keeps what it held before.
    pub fn grow_to(&mut self, amount: usize) -> Result<(), UsedUp> {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.shares.held();
        let used = held.get(&self.sender).copied().unwrap_or(0);
        if used + more > self.shares.limit {
            return Err(UsedUp);
        }
        held.insert(self.sender, used + more);
        self.amount += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut held = self.shares.held();
        let left = held.get(&self.sender).map_or(0, |used| used.saturating_sub(self.amount));
        if left == 0 {
            held.remove(&self.sender);
        } else {
            held.insert(self.sender, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs<'p>(&'p [(&'p str, &'p str)]);

    impl Headers for Pairs<'_> {
        fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
            self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
        }
    }

    fn sender(trusted: &[&str], socket: &str, lines: &[&str]) -> String {
        let networks: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let headers = Pairs(&headers);
        TrustedProxies::new(&networks).sender(socket.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_sender_is_the_last_address_that_no_trusted_proxy_wrote_for_itself() {
        let inside = &["10.0.0.0/8", "2001:db8:1::/48"][..];
        for (trusted, socket, lines, expected) in [
            // No proxy is trusted: any client may have written the header.
            (&[][..], "192.0.2.7", &["198.51.100.1"][..], "192.0.2.7"),
            (inside, "192.0.2.7", &["198.51.100.1"], "192.0.2.7"),
            (inside, "10.0.0.1", &[], "10.0.0.1"),
            (inside, "10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // The entries to the left are the sender's own.
            (inside, "10.0.0.1", &["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
            (inside, "10.0.0.1", &["127.0.0.1", "198.51.100.1 , 10.9.9.9"], "198.51.100.1"),
            (inside, "10.0.0.1", &["10.1.1.1,10.2.2.2"], "10.1.1.1"),
            // An entry that is no address ends the search.
            (inside, "10.0.0.1", &["198.51.100.1, unknown, 10.2.2.2"], "10.2.2.2"),
            (inside, "10.0.0.1", &["198.51.100.1,"], "10.0.0.1"),
            (inside, "10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            (inside, "10.0.0.1", &["[2001:db8::5]:80"], "2001:db8::5"),
            (inside, "2001:db8:1::1", &["[2001:db8::5]"], "2001:db8::5"),
            (inside, "::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(sender(trusted, socket, lines), expected, "{socket} {lines:?}");
        }
    }

    #[test]
    fn no_sender_takes_more_than_its_share_and_all_of_it_is_given_back() {
        let shares = Shares::of(10);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse::<IpAddr>().unwrap());
        let mut first = shares.share(one);
        assert!(first.grow_to(6).is_ok() && first.grow_to(6).is_ok(), "nothing is counted twice");
        let mut second = shares.share(one);
        assert!(second.grow_to(5).is_err() && second.grow_to(4).is_ok());
        assert!(shares.share(other).grow_to(10).is_ok(), "the other's share is its own");
        drop(first);
        assert!(second.grow_to(10).is_ok());
        drop(second);
        assert!(shares.held().is_empty(), "no table grows with the number of senders there were");
        // One host has a whole /64.
        let [near, far] = ["2001:db8::1", "2001:db8::ffff"].map(|it| it.parse().unwrap());
        let mut first = shares.share(near);
        assert!(first.grow_to(10).is_ok() && shares.share(far).grow_to(1).is_err());
    }
}
