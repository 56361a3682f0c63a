//! Namespaces that send alike: one of them is walked for all.
//!
//! Containers on one bridge differ only in their addresses, as long as nothing asks by which port or from which hardware address a
//! frame came. What the first of them can reach, with the addresses of all, is what each can reach with its own; only what goes to
//! the first itself is asked of the second.

use std::collections::BTreeMap;

use crate::model::netfilter::HARDWARE_ADDRESSES;
use crate::model::{Model, Place};
use crate::packet::Packet;
use crate::snapshot::{Chain, Expression, Family, LinkKind, Match, MetaKey, PayloadBase};
use crate::walk::Start;

use super::rows::Sender;
use super::{Flow, Pair};

/// Who sends: outside, a namespace, or one that speaks for others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    namespace: Option<usize>,
    members: Vec<usize>,
}

/// The groups of a model.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_member: BTreeMap<usize, Vec<usize>>,
}

impl Origin {
    pub(crate) const fn outside() -> Self {
        Self { namespace: None, members: Vec::new() }
    }

    /// One namespace, for itself; or outside.
    pub(crate) fn only(namespace: Option<usize>) -> Self {
        Self { namespace, members: namespace.into_iter().collect() }
    }

    pub(crate) const fn namespace(&self) -> Option<usize> {
        self.namespace
    }

    pub(crate) fn members(&self) -> &[usize] {
        &self.members
    }
}

impl Groups {
    pub(crate) fn new(model: &Model) -> Self {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut looking = BTreeMap::new();
        for (index, _) in model.namespaces() {
            if let Some(key) = likeness(model, index, &mut looking) {
                groups.entry(key).or_default().push(index);
            }
        }
        let mut by_member = BTreeMap::new();
        for members in groups.into_values().filter(|members| members.len() > 2) {
            for member in &members {
                by_member.insert(*member, members.clone());
            }
        }
        Self { by_member }
    }

    /// Each group.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[usize]> {
        self.by_member.iter().filter(|(member, members)| members.first() == Some(member)).map(|(_, members)| members.as_slice())
    }

    /// Who is walked for what a namespace sends: the first of its group, and for what is sent to that one, the second.
    pub(crate) fn origins(&self, namespace: usize) -> Vec<Origin> {
        let Some(members) = self.by_member.get(&namespace) else {
            return vec![Origin::only(Some(namespace))];
        };
        members.iter().take(2).map(|speaker| Origin { namespace: Some(*speaker), members: members.clone() }).collect()
    }
}

/// What namespaces of a group have in common; none for one that stands alone.
///
/// `looking` remembers of which namespaces the rules look at ports.
fn likeness(model: &Model, index: usize, looking: &mut BTreeMap<usize, bool>) -> Option<String> {
    let content = model.namespace(index);
    if index == model.host || !content.rules.tables.is_empty() || !content.opaque.is_empty() || content.has_fixed_neighbours() {
        return None;
    }
    if content.fib4.has_custom_rules()
        || !content.fib6.has_default_rules()
        || content.sockets.iter().any(|socket| socket.owner.as_ref().is_some_and(|owner| owner.proxy.is_some()))
    {
        return None;
    }
    let mut links = content.links.values().filter(|link| link.up && link.kind != LinkKind::Loopback);
    let (link, None) = (links.next()?, links.next()) else {
        return None;
    };
    let place = Place { namespace: index, link: link.index };
    if link.kind != LinkKind::Veth || link.master.is_some() || !model.uppers_of(place).is_empty() || content.opaque_links.contains_key(&link.index) {
        return None;
    }
    let peer = model.peer_place(link.peer)?;
    let port = model.link(peer)?;
    let around = model.namespace(peer.namespace);
    let bridge = around.links.get(&port.master?)?;
    let LinkKind::Bridge(switches) = &bridge.kind else {
        return None;
    };
    let settings = port.port.as_ref()?;
    let looks = *looking.entry(peer.namespace).or_insert_with(|| around.rules.looks_at_ports());
    let fixed = link.mac.is_some_and(|mac| around.fdb_of(bridge.index, mac).iter().any(|entry| entry.fixed));
    let looked_at = looks || fixed || around.opaque_links.contains_key(&port.index) || !model.uppers_of(peer).is_empty();
    if switches.vlan_filtering || settings.hairpin || looked_at || model.uplinks.contains(&peer) || !port.up {
        return None;
    }
    let own: Vec<String> = content.addresses_of(link.index).iter().map(|own| format!("{}/{}", own.address.trunc(), own.scope)).collect();
    let routes = content.plain_routes();
    // What it takes for its own besides the link's addresses never leaves it.
    let others = content.delivers_besides(link.index);
    Some(format!(
        "{peer_namespace}.{bridge}:{settings:?}:{:?}:{:?}:{:?}:{:?}:{own:?}:{others:?}:{routes:?}:{}:{}",
        link.ipv4,
        link.ipv6,
        content.ipv4_all,
        content.ipv6_all,
        link.name,
        link.index,
        peer_namespace = peer.namespace,
        bridge = bridge.index,
    ))
}

impl Pair {
    /// Of what a group can send, what this member can, as it sends it.
    pub(super) fn sent_by(mut self, sender: &Sender) -> Self {
        for flows in [&mut self.open, &mut self.unknown] {
            flows.retain_mut(|flow| flow.sent_by(sender));
        }
        self
    }
}

impl Flow {
    fn sent_by(&mut self, sender: &Sender) -> bool {
        let ipv4 = self.witness.is_ipv4();
        let chosen = sender.one_of(&self.sources, ipv4);
        let (from, is_own) = match &mut self.start {
            None | Some(Start::Arrival { .. }) => return true,
            // Whoever chooses none has the kernel choose.
            Some(Start::Process { .. }) if ipv4 && chosen.is_none() && !self.sources.contains(0) => return false,
            Some(Start::Process { namespace, .. }) => (namespace, sender.has(self.witness.source)),
            Some(Start::Wire { from, .. }) => (&mut from.namespace, true),
        };
        if let Some(source) = chosen.filter(|_| *from != sender.namespace || !is_own) {
            self.witness = Packet { source, ..self.witness };
        }
        *from = sender.namespace;
        true
    }
}

impl crate::model::netfilter::Ruleset {
    /// Whether a rule asks by which bridge port or from which hardware address a frame came.
    fn looks_at_ports(&self) -> bool {
        let asks = |expression: &Expression| {
            matches!(
                expression,
                Expression::Match(Match::Physdev { .. } | Match::Mac { .. } | Match::Opaque { .. })
                    | Expression::Payload { base: PayloadBase::Link, offset: 0..HARDWARE_ADDRESSES, .. }
                    | Expression::Meta { key: MetaKey::BriIifName | MetaKey::BriOifName | MetaKey::BriIifHwAddr, .. }
                    | Expression::Opaque { .. }
            )
        };
        // On a bridge, the links of a rule are its ports.
        let asks_on_bridge = |expression: &Expression| {
            let of_packet = [MetaKey::L4Proto, MetaKey::Len, MetaKey::Mark, MetaKey::NfProto, MetaKey::Protocol];
            let of_link = |key: &MetaKey| !of_packet.contains(key);
            matches!(expression, Expression::Match(_) | Expression::Target(_) | Expression::Fib { .. })
                || matches!(expression, Expression::Meta { key, .. } if of_link(key))
                || asks(expression)
        };
        self.tables.iter().any(|table| {
            let mut expressions = table.chains.iter().flat_map(Chain::expressions);
            match table.family {
                Family::Arp | Family::Netdev | Family::Other(_) => true,
                Family::Bridge => expressions.any(asks_on_bridge),
                Family::Inet | Family::Ip | Family::Ip6 => expressions.any(asks) || table.chains.iter().any(is_of_devices),
            }
        })
    }
}

/// Whether a chain is hooked at links.
fn is_of_devices(chain: &Chain) -> bool {
    chain.base.as_ref().is_some_and(|base| !base.devices.is_empty())
}
