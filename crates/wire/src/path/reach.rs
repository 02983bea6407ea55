//! How a host is reached, as it says itself: one line that stands in the resource database.
//!
//! `quic=192.0.2.7:41641,[2001:db8::7]:41641;relay;tcp=192.0.2.7:7403`: over QUIC at these addresses,
//! through the market's relay, over plain TCP. Each part may be missing. A line without any of
//! these words is the address for plain TCP alone.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// No such line is longer, in bytes.
pub const LONGEST: usize = 500;
/// Addresses beyond these are left out.
pub const MOST_ADDRESSES: usize = 8;

/// How a host is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Where it speaks QUIC; none where it does not, and empty where only a relay leads to it.
    pub quic: Option<Vec<SocketAddr>>,
    /// Whether it is to be found at the market's relay.
    pub relayed: bool,
    /// Where it speaks plain TCP, such as `192.0.2.7:7403`.
    pub tcp: Option<String>,
}

impl Reach {
    /// Only by plain TCP.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self { tcp: Some(address.into()), ..Self::default() }
    }

    /// Whether there is any way at all.
    pub fn is_empty(&self) -> bool {
        !self.has_quic() && self.tcp.is_none()
    }

    /// Whether QUIC can lead there.
    pub fn has_quic(&self) -> bool {
        self.quic.as_ref().is_some_and(|addresses| self.relayed || !addresses.is_empty())
    }

    /// Whether all that is known of it is on this computer.
    pub fn is_here(&self) -> bool {
        !self.relayed && self.quic.iter().flatten().all(|address| address.ip().is_loopback())
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(addresses) = &self.quic {
            let addresses = addresses.iter().take(MOST_ADDRESSES).map(ToString::to_string).collect::<Vec<_>>();
            parts.push(format!("quic={}", addresses.join(",")));
        }
        if self.relayed {
            parts.push("relay".into());
        }
        match &self.tcp {
            Some(tcp) if parts.is_empty() => parts.push(tcp.clone()),
            Some(tcp) => parts.push(format!("tcp={tcp}")),
            None => {}
        }
        f.write_str(&parts.join(";"))
    }
}

/// Why a line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not say how a host is reached")]
pub struct Unclear(String);

impl FromStr for Reach {
    type Err = Unclear;

    /// Words that are not known are passed over: a newer host may know more ways.
    fn from_str(text: &str) -> Result<Self, Unclear> {
        let unclear = || Unclear(text.chars().take(80).collect());
        if text.len() > LONGEST || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(unclear());
        }
        let mut reach = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("quic", addresses)) => {
                    let addresses = addresses.split(',').filter(|a| !a.is_empty()).take(MOST_ADDRESSES);
                    reach.quic = Some(addresses.map(str::parse).collect::<Result<_, _>>().map_err(|_| unclear())?);
                }
                Some(("tcp", address)) => reach.tcp = Some(address.into()),
                Some(_) => {}
                None if part == "relay" => reach.relayed = true,
                None if part.contains(':') => reach.tcp = Some(part.into()),
                None => {}
            }
        }
        Ok(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let (near, far) = (address("192.168.1.7:41641"), address("[2001:db8::7]:41641"));
        let tcp = Some("192.0.2.7:7403".to_string());
        for (line, quic, relayed, tcp) in [
            ("127.0.0.1:40222", None, false, Some("127.0.0.1:40222".into())),
            ("host.example:22", None, false, Some("host.example:22".into())),
            ("quic=192.168.1.7:41641", Some(vec![near]), false, None),
            ("quic=;relay", Some(vec![]), true, None),
            ("quic=192.168.1.7:41641,[2001:db8::7]:41641;relay;tcp=192.0.2.7:7403", Some(vec![near, far]), true, tcp),
        ] {
            let reach = Reach { quic, relayed, tcp };
            assert_eq!(line.parse::<Reach>().as_ref(), Ok(&reach), "{line}");
            assert_eq!(reach.to_string(), line);
        }
    }

    #[test]
    fn what_is_malformed_is_refused_and_what_is_newer_passed_over() {
        for bad in ["quic=here", "127.0.0.1:1 -x", "quic=1.2.3.4:5\n", &"x".repeat(LONGEST + 1)] {
            assert!(bad.parse::<Reach>().is_err(), "{bad:?}");
        }
        for nowhere in ["", "relay", "quic=", "nothing", "smoke=x"] {
            assert!(nowhere.parse::<Reach>().unwrap().is_empty(), "{nowhere:?}");
        }
        let newer: Reach = "carrier-pigeon;tcp=127.0.0.1:1;smoke=x".parse().unwrap();
        assert_eq!(newer, Reach::tcp("127.0.0.1:1"));
    }

    #[test]
    fn what_is_on_this_computer_is_told_apart() {
        let here = |text: &str| text.parse::<Reach>().unwrap().is_here();
        assert!(here("quic=127.0.0.1:1,[::1]:1"));
        assert!(!here("quic=127.0.0.1:1;relay") && !here("quic=127.0.0.1:1,192.168.1.7:1"));
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_or_read_differently(
            addresses in proptest::collection::vec(any::<SocketAddr>(), 0..20), relayed: bool, tcp: bool,
        ) {
            let tcp = tcp.then(|| "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".to_string());
            // A scope is of this computer only, and flow labels are of nobody's use.
            let plain = |a: SocketAddr| SocketAddr::new(a.ip(), a.port());
            let reach = Reach { quic: Some(addresses.into_iter().map(plain).collect()), relayed, tcp };
            let text = reach.to_string();
            prop_assert!(text.len() <= LONGEST);
            prop_assert_eq!(text.parse::<Reach>().unwrap().to_string(), text);
        }
    }
}
