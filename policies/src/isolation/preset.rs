//! What is allowed without being listed.

use serde::Deserialize;

use super::party::{Party, PartyKind};
use super::ports::Flows;

/// A set of flows that has a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// What Docker promises: containers of one network reach each other (unless `icc=false`), everybody reaches published ports, who is on a
    /// network that is not internal gets out, and the host and its containers reach each other.
    #[default]
    DockerDefault,
    /// Nothing.
    None,
    /// What is needed for anything to work: containers of one network reach each other, outside and the host reach published ports.
    Strict,
}

impl Preset {
    /// Its name in a policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DockerDefault => "docker-default",
            Self::None => "none",
            Self::Strict => "strict",
        }
    }

    /// The preset of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::DockerDefault, Self::None, Self::Strict].into_iter().find(|preset| preset.name() == name)
    }

    /// Flows that it allows from one party to another.
    #[must_use]
    pub fn allowed(self, from: &Party, to: &Party) -> Flows {
        match self {
            Self::DockerDefault => docker_default(from, to),
            Self::None => Flows::default(),
            Self::Strict => strict(from, to),
        }
    }
}

fn docker_default(from: &Party, to: &Party) -> Flows {
    use PartyKind::{Container, Host, Metadata, Namespace, Outside};
    match (from.kind, to.kind) {
        (Container, Container) if from.shares_network(to) => Flows::all(),
        // A port that is published on all addresses of the host is for every network with a way out.
        (Container, Container) if from.has_way_out() => to.published_flows(false),
        (Container, Container) => Flows::default(),
        (Container, Host) | (Host, _) => Flows::all(),
        (Container | Namespace, Metadata | Namespace | Outside) if from.has_way_out() => Flows::all(),
        (Container, Metadata | Namespace | Outside) => Flows::default(),
        (Namespace | Outside | Metadata, Container) => to.published_flows(false),
        (Namespace | Outside | Metadata, Host | Metadata | Namespace | Outside) => Flows::all(),
    }
}

fn strict(from: &Party, to: &Party) -> Flows {
    match (from.kind, to.kind) {
        (PartyKind::Container, PartyKind::Container) if from.shares_network(to) => Flows::all(),
        (PartyKind::Outside, PartyKind::Container) => to.published_flows(false),
        (PartyKind::Host, PartyKind::Container) => to.published_flows(true),
        _ => Flows::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::{Membership, Publication};

    fn container(name: &str, network: &str, internal: bool, icc: bool) -> Party {
        let networks = [(network.to_owned(), Membership { internal, icc })].into();
        Party { name: name.to_owned(), networks, ..Party::default() }
    }

    #[test]
    fn docker_promises_isolation_between_networks_and_of_internal_ones() {
        let (a, b) = (container("a", "na", false, true), container("b", "na", false, true));
        let web = Party { published: vec![Publication { udp: false, port: 80, loopback: false }], ..container("web", "nb", false, true) };
        let hidden = container("i", "ni", true, true);
        let (n1, n2) = (container("n1", "nn", false, false), container("n2", "nn", false, false));
        let outside = Party { name: "outside".to_owned(), kind: PartyKind::Outside, ..Party::default() };
        let all = |from: &Party, to: &Party| Preset::DockerDefault.allowed(from, to) == Flows::all();
        let none = |from: &Party, to: &Party| Preset::DockerDefault.allowed(from, to).is_empty();
        assert!(all(&a, &b) && none(&web, &a) && none(&n1, &n2));
        assert!(Preset::DockerDefault.allowed(&a, &web).tcp.contains(80));
        assert!(none(&hidden, &web) && none(&hidden, &outside) && none(&a, &hidden));
        assert!(all(&a, &outside) && none(&outside, &a));
        assert!(Preset::Strict.allowed(&a, &outside).is_empty());
    }
}
