//! The network between the places:
//!
//! ```text
//! host 192.168.1.7 -- home router 203.0.113.2 --+
//!                                               +-- market 203.0.113.1
//! client 192.168.2.7 - office router 203.0.113.3 +
//! ```

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Where something runs, and the routers.
const PLACES: [&str; 5] = ["host", "client", "market", "home", "office"];

/// Namespaces of this test alone; gone when dropped.
pub struct Net {
    tag: String,
}

impl Net {
    /// Makes them; none, said aloud, where this computer does not let us.
    pub fn make() -> Result<Option<Self>> {
        let net = Self { tag: format!("sublet{}", std::process::id()) };
        let tried = Command::new("ip").args(["netns", "add", &net.name("host")]).output();
        let refused = match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = refused {
            println!("NOT TRIED: network namespaces can't be made here: {}", reason.trim());
            return Ok(None);
        }
        for place in &PLACES[1..] {
            net.ip(&format!("netns add {}", net.name(place)))?;
        }
        PLACES.iter().try_for_each(|place| net.on(place, "ip link set lo up"))?;
        net.on("market", "ip link add br0 type bridge && ip addr add 203.0.113.1/24 dev br0 && ip link set br0 up")?;
        net.house("host", "home", "192.168.1", "203.0.113.2")?;
        net.house("client", "office", "192.168.2", "203.0.113.3")?;
        net.masquerade("")?;
        Ok(Some(net))
    }

    /// A router with one computer behind it.
    fn house(&self, inside: &str, router: &str, lan: &str, wan: &str) -> Result<()> {
        let (r, i, m) = (self.name(router), self.name(inside), self.name("market"));
        self.ip(&format!("link add name lan netns {r} type veth peer name eth0 netns {i}"))?;
        self.ip(&format!("link add name wan netns {r} type veth peer name {router} netns {m}"))?;
        self.on("market", &format!("ip link set {router} master br0 up"))?;
        self.on(router, &format!("ip addr add {lan}.1/24 dev lan && ip addr add {wan}/24 dev wan"))?;
        self.on(router, "ip link set lan up && ip link set wan up && sysctl -qw net.ipv4.ip_forward=1")?;
        self.on(inside, &format!("ip addr add {lan}.7/24 dev eth0 && ip link set eth0 up"))?;
        self.on(inside, &format!("ip route add default via {lan}.1"))
    }

    /// Both routers hide who is behind them and let in what was asked for only.
    pub fn masquerade(&self, how: &str) -> Result<()> {
        let rules = format!(
            "flush ruleset
            table ip router {{
                chain out {{
                    type nat hook postrouting priority srcnat
                    oifname wan ip daddr != 192.168.0.0/16 masquerade {how}
                }}
                chain own {{
                    type filter hook input priority filter; policy drop
                    ct state established,related accept
                    iifname != wan accept
                }}
                chain through {{
                    type filter hook forward priority filter; policy drop
                    ct state established,related accept
                    iifname lan accept
                }}
            }}"
        );
        ["home", "office"].iter().try_for_each(|router| self.on(router, &format!("nft -f - <<'END'\n{rules}\nEND")))
    }

    /// Each router knows what is behind the other, and lets it in.
    pub fn route(&self) -> Result<()> {
        self.on("home", "ip route add 192.168.2.0/24 via 203.0.113.3")?;
        self.on("office", "ip route add 192.168.1.0/24 via 203.0.113.2")?;
        let let_in = "nft add rule ip router through ip saddr 192.168.0.0/16 accept";
        ["home", "office"].iter().try_for_each(|router| self.on(router, let_in))
    }

    /// A program at a place. Its files are those of everybody: only the network is another.
    pub fn at(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name(place))).arg(program);
        command
    }

    fn name(&self, place: &str) -> String {
        format!("{}-{place}", self.tag)
    }

    fn ip(&self, words: &str) -> Result<()> {
        succeeds(Command::new("ip").args(words.split(' ')))
    }

    fn on(&self, place: &str, line: &str) -> Result<()> {
        succeeds(self.at(place, "sh").args(["-ec", line])).with_context(|| format!("at {place}: {line}"))
    }
}

fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?} (scripts/setup installs what it needs)"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in PLACES {
            let _ = Command::new("ip").args(["netns", "del", &self.name(place)]).output();
        }
    }
}
