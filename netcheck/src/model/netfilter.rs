//! nf_tables as the kernel hooks it: which chains run where and in which order, and sets that can be searched.

use std::collections::{BTreeMap, BTreeSet};

use super::order::{Effects, Hooking, Orders};
use super::shortcut::Shortcuts;
use crate::packet::{BESIDES_SYN, ECN};
use crate::snapshot::{
    BaseChain, BitOperation, Chain, ChainKind, CtKey, Element, Expression, ExthdrKind, Family, Hook, Match, MetaKey, PayloadBase, Set, Table, Target,
};
use crate::space::Ranges;

/// The rules of one namespace.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    /// Tables, in the order of the dump.
    pub tables: Vec<NfTable>,
    hooks: BTreeMap<(Layer, Hook), Orders<Hooked>>,
    nat: BTreeMap<(Layer, Hook), Orders<ChainAt>>,
    /// What is at the ingress or egress of links, by their names.
    devices: BTreeMap<(Hook, String), Orders<ChainAt>>,
    /// ipsets that rules add to or delete from.
    changed_ipsets: BTreeSet<u16>,
}

/// What kind of packet a hook is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// ARP.
    Arp,
    /// Frames on a bridge.
    Bridge,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// A chain by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainAt {
    /// Index of the table.
    pub table: usize,
    /// Index of the chain in it.
    pub chain: usize,
}

/// What runs at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooked {
    /// On a bridge: the hooks of the IP stack, by br_netfilter.
    BridgeNetfilter,
    /// A base chain of type filter or route.
    Chain(ChainAt),
    /// Connection tracking.
    Conntrack,
    /// Address translation, and the nat chains for the first packet.
    Nat,
}

/// A table with ways to find what is in it.
#[derive(Debug, Clone)]
pub struct NfTable {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
    by_name: BTreeMap<String, usize>,
    shortcuts: Vec<Shortcuts>,
    sets: BTreeMap<String, SearchSet>,
    /// Whether fragments of IPv4, and of IPv6, are put together before they come here.
    whole: [bool; 2],
}

/// A set that can be searched.
#[derive(Debug, Clone)]
pub struct SearchSet {
    /// As it was read; elements sorted by their lowest key, the catch-all element apart.
    pub set: Set,
    /// The element for keys that no other has.
    pub catch_all: Option<Element>,
    /// Keys of the elements as numbers, when a key is one number of at most 16 bytes.
    pub keys: Option<Ranges>,
    /// Whether rules may have added elements since it was read.
    pub grows: bool,
    /// Whether rules may have deleted elements since.
    pub shrinks: bool,
}

/// `NFT_OBJECT_CT_HELPER` and `NFT_OBJECT_CT_EXPECT`.
pub(super) const HELPER: u32 = 3;
pub(super) const EXPECTATION: u32 = 9;
/// Bytes of the two addresses that an Ethernet header begins with.
pub(crate) const HARDWARE_ADDRESSES: u32 = 12;
/// Where IPv6 names the next header.
const NEXT_HEADER: u32 = 6;
/// Where TCP has its flags.
const TCP_FLAGS: u32 = 13;
/// Where IPv4 says whether it is a fragment.
const FRAGMENT: std::ops::Range<u32> = 6..8;
const DEFRAGMENTATION: i32 = -400;
/// `NF_IP_PRI_CONNTRACK`, `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`, which are the same for IPv6.
const CONNTRACK: i32 = -200;
const NAT_DESTINATION: i32 = -100;
const NAT_SOURCE: i32 = 100;
/// `NF_BR_PRI_BRNF`: where br_netfilter sits in PREROUTING and FORWARD of a bridge; in POSTROUTING it is the last.
const BRNF: i32 = 0;

impl Ruleset {
    /// Hooks the chains of these tables. `links` are the names of the namespace's links.
    #[must_use]
    pub fn new(tables: &[Table], links: &BTreeMap<String, u32>) -> Self {
        let mut own: Vec<NfTable> = tables.iter().map(|table| NfTable::new(table, links)).collect();
        let tracks =
            [Layer::Ip, Layer::Ip6].map(|layer| tables.iter().any(|table| layers(table.family).contains(&layer) && expressions(table).any(tracks)));
        for (table, read) in own.iter_mut().zip(tables) {
            let early = read.chains.iter().filter_map(|chain| chain.base.as_ref()).any(|base| base.priority <= DEFRAGMENTATION);
            table.whole = tracks.map(|tracks| tracks && !early && !matches!(read.family, Family::Bridge | Family::Netdev));
        }
        // The newest first.
        let mut order: Vec<(usize, &Table)> = tables.iter().enumerate().filter(|(_, table)| !table.dormant).collect();
        order.sort_by_key(|(_, table)| std::cmp::Reverse(table.handle));
        let mut hooked = Hookings::default();
        for (index, table) in order {
            let mut chains: Vec<(usize, &Chain)> = table.chains.iter().enumerate().collect();
            chains.sort_by_key(|(_, chain)| std::cmp::Reverse(chain.handle));
            for (chain_index, chain) in chains {
                if let Some(base) = &chain.base {
                    hooked.chain(table.family, base, ChainAt { table: index, chain: chain_index }, links);
                }
            }
        }
        hooked.kernel();
        let of_chain = |at: ChainAt| {
            let table = tables.get(at.table);
            table
                .and_then(|table| Some((table, table.chains.get(at.chain)?)))
                .map_or_else(Effects::default, |(table, chain)| Effects::of_chain(table, chain))
        };
        let Hookings { hooks, nat, devices } = &hooked;
        Self {
            hooks: hooks.iter().map(|(at, hooks)| (*at, Orders::new(hooks.clone(), |what| hooked.effects(*at, what, &of_chain)))).collect(),
            nat: nat.iter().map(|(at, chains)| (*at, Orders::new(chains.clone(), |chain| of_chain(chain).of_nat_chain()))).collect(),
            devices: devices.iter().map(|(at, chains)| (at.clone(), Orders::new(chains.clone(), of_chain))).collect(),
            changed_ipsets: tables.iter().flat_map(expressions).flat_map(changed_ipsets).collect(),
            tables: own,
        }
    }

    /// Whether what is in an ipset depends on earlier packets.
    #[must_use]
    pub fn changes_ipset(&self, index: u16) -> bool {
        self.changed_ipsets.contains(&index)
    }

    /// Whether a packet that arrives meets any rule before it is routed.
    #[must_use]
    pub fn has_rules_before_routing(&self) -> bool {
        let early = |(_, hook): &&(Layer, Hook)| *hook == Hook::Prerouting;
        let filters = self.hooks.iter().filter(|(at, _)| early(at)).flat_map(|(_, orders)| orders.nth(0)).filter_map(|hooked| match hooked {
            Hooked::Chain(chain) => Some(chain),
            Hooked::BridgeNetfilter | Hooked::Conntrack | Hooked::Nat => None,
        });
        let nat = self.nat.iter().filter(|(at, _)| early(at)).flat_map(|(_, orders)| orders.nth(0));
        let ingress = self.devices.iter().filter(|((hook, _), _)| *hook == Hook::Ingress).flat_map(|(_, orders)| orders.nth(0));
        filters.chain(nat).chain(ingress).any(|chain| self.chain(*chain).is_some_and(|chain| !chain.rules.is_empty()))
    }

    /// Whether a packet that arrives meets any rule before it is delivered or sent on.
    #[must_use]
    pub fn has_rules_for_arrivals(&self) -> bool {
        let for_arrivals = |base: &BaseChain| !matches!(base.hook, Hook::Egress | Hook::Output | Hook::Postrouting);
        let mut chains = self.tables.iter().flat_map(|table| &table.chains);
        chains.any(|chain| !chain.rules.is_empty() && chain.base.as_ref().is_some_and(for_arrivals))
    }

    /// What runs at a hook, if anything does.
    #[must_use]
    pub fn at(&self, layer: Layer, hook: Hook) -> Option<&Orders<Hooked>> {
        self.hooks.get(&(layer, hook))
    }

    /// The priority of a hooked chain; conntrack and nat have their own.
    #[must_use]
    pub fn base(&self, at: ChainAt) -> Option<&BaseChain> {
        self.chain(at).and_then(|chain| chain.base.as_ref())
    }

    /// The nat chains of a hook, if there are any.
    #[must_use]
    pub fn nat_at(&self, layer: Layer, hook: Hook) -> Option<&Orders<ChainAt>> {
        self.nat.get(&(layer, hook))
    }

    /// Chains at the ingress or egress of a link, if there are any.
    #[must_use]
    pub fn at_device(&self, hook: Hook, device: &str) -> Option<&Orders<ChainAt>> {
        if self.devices.is_empty() { None } else { self.devices.get(&(hook, device.to_owned())) }
    }

    /// Whether rules see frames, before an IP stack has taken off what is around the packet.
    #[must_use]
    pub fn looks_into_frames(&self) -> bool {
        let hooked = |layer: Layer| self.hooks.keys().any(|(of, _)| *of == layer);
        hooked(Layer::Bridge) || !self.devices.is_empty()
    }

    /// Whether a rule asks for a packet's mark, or sees what leaves by a link: by both may go who chooses how its socket sends.
    #[must_use]
    pub fn asks_about_sockets(&self) -> bool {
        const FIB_MARK: u32 = 4;
        let asks = |expression: &Expression| {
            matches!(
                expression,
                Expression::Match(Match::Mark { .. } | Match::Rpfilter { .. })
                    | Expression::Meta { key: MetaKey::Mark, .. }
                    | Expression::Target(Target::Connmark { .. })
            ) || matches!(expression, Expression::Fib { flags, .. } if flags & FIB_MARK != 0)
        };
        self.devices.keys().any(|(hook, _)| *hook == Hook::Egress) || self.tables.iter().flat_map(NfTable::expressions).any(asks)
    }

    /// Whether a rule may hand a frame to somebody whom it is not for.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is leaves frames to whom they are for")]
    pub fn diverts_frames(&self) -> bool {
        let diverts = |expression: &Expression| match expression {
            Expression::Dup | Expression::Fwd { .. } | Expression::Opaque { .. } | Expression::Target(Target::Opaque { .. }) => true,
            Expression::MetaSet { key, .. } => matches!(key, MetaKey::PktType | MetaKey::BriBroute | MetaKey::Other(_)),
            Expression::PayloadSet { base, .. } => *base == PayloadBase::Link,
            _ => false,
        };
        let sees_frames = |table: &&NfTable| matches!(table.family, Family::Bridge | Family::Inet | Family::Netdev);
        self.tables.iter().filter(sees_frames).flat_map(NfTable::expressions).any(diverts)
    }

    /// Whether a rule asks for hardware addresses, what follows from them, or what of a packet's headers is not followed.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is asks for something else")]
    pub fn asks_about_frames(&self) -> bool {
        let asks = |expression: &Expression| match expression {
            Expression::Match(Match::Tcp { flags: Some(flags), .. }) => flags.mask & BESIDES_SYN != 0,
            Expression::Match(Match::Mac { .. } | Match::Pkttype { .. })
            | Expression::Payload { base: PayloadBase::Link, offset: 0..HARDWARE_ADDRESSES, .. }
            | Expression::Meta { key: MetaKey::PktType, .. } => true,
            Expression::Payload { base: PayloadBase::Transport, offset, len, .. } => (*offset..offset + len).contains(&TCP_FLAGS),
            _ => false,
        };
        self.asks_about_headers() || self.tables.iter().flat_map(NfTable::expressions).any(asks)
    }

    /// Whether a rule asks for headers that any program may choose: options, extension headers, fragments.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is asks for something else")]
    pub fn asks_about_headers(&self) -> bool {
        let asks = |table: &NfTable, expression: &Expression| match expression {
            Expression::Exthdr { kind: ExthdrKind::Ipv4 | ExthdrKind::Ipv6, .. } => true,
            Expression::Payload { base: PayloadBase::Network, offset, len, .. } => {
                let bytes = *offset..offset + len;
                let options = bytes.end > if table.family == Family::Ip { 20 } else { 40 };
                let fragment = bytes.start < FRAGMENT.end && FRAGMENT.start < bytes.end && !table.sees_whole(true);
                options || bytes.start == 0 || fragment || (table.family != Family::Ip && bytes.contains(&NEXT_HEADER))
            }
            _ => false,
        };
        self.tables.iter().any(|table| table.expressions().any(|one| asks(table, one)))
    }

    /// Whether a rule may tell a SYN that offers ECN from another one.
    #[must_use]
    pub fn asks_about_ecn(&self) -> bool {
        let rules = self.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        rules.into_iter().any(|rule| rule.expressions.iter().enumerate().any(|(place, one)| asks_about_ecn(one, rule.expressions.get(place + 1))))
    }

    /// Whether ARP has rules.
    #[must_use]
    pub fn filters_arp(&self) -> bool {
        self.tables.iter().any(|table| table.family == Family::Arp && table.chains.iter().any(|chain| !chain.rules.is_empty()))
    }

    /// A chain.
    #[must_use]
    pub fn chain(&self, at: ChainAt) -> Option<&Chain> {
        self.tables.get(at.table)?.chains.get(at.chain)
    }

    /// A table.
    #[must_use]
    pub fn table(&self, index: usize) -> Option<&NfTable> {
        self.tables.get(index)
    }
}

/// Whether an instruction asks for ECE or CWR, or for bytes that they are in and of which the next one does not mask them.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is asks for something else")]
fn asks_about_ecn(expression: &Expression, next: Option<&Expression>) -> bool {
    let masked = |len: u32| match next {
        Some(Expression::Bitwise { operation: BitOperation::Mask { mask, .. }, .. }) if len == 1 => {
            mask.as_slice().iter().all(|bits| bits & ECN == 0)
        }
        _ => false,
    };
    match expression {
        Expression::Match(Match::Tcp { flags: Some(flags), .. }) => flags.mask & ECN != 0,
        Expression::Payload { base: PayloadBase::Transport, offset, len, .. } => (*offset..offset + len).contains(&TCP_FLAGS) && !masked(*len),
        // Right behind the header of IPv4 or IPv6.
        Expression::Payload { base: PayloadBase::Network, offset, len, .. } => {
            [20, 40].into_iter().any(|header| (*offset..offset + len).contains(&(header + TCP_FLAGS))) && !masked(*len)
        }
        _ => false,
    }
}

fn expressions(table: &Table) -> impl Iterator<Item = &Expression> {
    table.chains.iter().flat_map(Chain::expressions)
}

/// The ipsets that a rule adds to or deletes from.
fn changed_ipsets(expression: &Expression) -> impl Iterator<Item = u16> {
    let target = if let Expression::Target(Target::Set(target)) = expression { Some(target) } else { None };
    target.into_iter().flat_map(|target| [target.add, target.delete]).flatten()
}

/// What rules of a table do to its sets: names of those that they add to, and of those that they delete from.
fn changed_sets(table: &Table) -> [BTreeSet<&str>; 2] {
    const DELETE: u32 = 2;
    let mut changed = [BTreeSet::new(), BTreeSet::new()];
    let [added, deleted] = &mut changed;
    for expression in expressions(table) {
        if let Expression::Dynset { set, operation, .. } = expression {
            if *operation == DELETE { &mut *deleted } else { &mut *added }.insert(set.as_str());
        }
    }
    changed
}

fn layers(family: Family) -> &'static [Layer] {
    match family {
        Family::Arp => &[Layer::Arp],
        Family::Bridge => &[Layer::Bridge],
        Family::Inet => &[Layer::Ip, Layer::Ip6],
        Family::Ip => &[Layer::Ip],
        Family::Ip6 => &[Layer::Ip6],
        Family::Netdev | Family::Other(_) => &[],
    }
}

type ByHook<T> = BTreeMap<(Layer, Hook), Vec<Hooking<T>>>;

/// What is hooked where.
#[derive(Default)]
struct Hookings {
    hooks: ByHook<Hooked>,
    nat: ByHook<ChainAt>,
    devices: BTreeMap<(Hook, String), Vec<Hooking<ChainAt>>>,
}

impl Hookings {
    fn chain(&mut self, family: Family, base: &BaseChain, at: ChainAt, links: &BTreeMap<String, u32>) {
        let (priority, table) = (base.priority, Some(at.table));
        if matches!(base.hook, Hook::Ingress | Hook::Egress) {
            let bound =
                |name: &&String| base.devices.iter().any(|device| device.strip_suffix('*').map_or(device == *name, |start| name.starts_with(start)));
            for name in links.keys().filter(bound) {
                // Links are added to chains, and come and go.
                self.devices.entry((base.hook, name.clone())).or_default().push(Hooking { priority, table: None, what: at });
            }
        }
        for layer in layers(family) {
            let place = (*layer, base.hook);
            match base.kind {
                // Nat chains share one hook, at the place of nat; their priority orders them among themselves.
                ChainKind::Nat => self.nat.entry(place).or_default().push(Hooking { priority, table, what: at }),
                ChainKind::Filter | ChainKind::Route | ChainKind::Other(_) => {
                    // `br_nf_ops`: until Linux 6.8 br_netfilter was one place earlier in FORWARD.
                    let priority = if place == (Layer::Bridge, Hook::Forward) && priority == BRNF - 1 { BRNF } else { priority };
                    self.hooks.entry(place).or_default().push(Hooking { priority, table, what: Hooked::Chain(at) });
                }
            }
        }
    }

    /// What the kernel hooks itself, when it is first needed.
    fn kernel(&mut self) {
        for layer in [Layer::Ip, Layer::Ip6] {
            for (hook, priority, what) in [
                (Hook::Prerouting, CONNTRACK, Hooked::Conntrack),
                (Hook::Output, CONNTRACK, Hooked::Conntrack),
                (Hook::Prerouting, NAT_DESTINATION, Hooked::Nat),
                (Hook::Output, NAT_DESTINATION, Hooked::Nat),
                (Hook::Postrouting, NAT_SOURCE, Hooked::Nat),
                (Hook::Input, NAT_SOURCE, Hooked::Nat),
            ] {
                self.hooks.entry((layer, hook)).or_default().push(Hooking { priority, table: None, what });
            }
        }
        for (hook, priority) in [(Hook::Prerouting, BRNF), (Hook::Forward, BRNF), (Hook::Postrouting, i32::MAX)] {
            if let Some(hooked) = self.hooks.get_mut(&(Layer::Bridge, hook)) {
                hooked.push(Hooking { priority, table: None, what: Hooked::BridgeNetfilter });
            }
        }
    }

    /// What one does that is hooked here.
    fn effects(&self, (layer, hook): (Layer, Hook), what: Hooked, of_chain: &impl Fn(ChainAt) -> Effects) -> Effects {
        let of_nat = |chains: &Vec<Hooking<ChainAt>>| chains.iter().map(|chain| of_chain(chain.what)).collect::<Effects>();
        match what {
            Hooked::Chain(chain) => of_chain(chain),
            Hooked::Conntrack => Effects::CONNTRACK,
            // Without any rule for it nothing is translated.
            Hooked::Nat if self.nat.iter().all(|((of, _), chains)| *of != layer || of_nat(chains) == Effects::default()) => Effects::default(),
            Hooked::Nat => Effects::NAT | self.nat.get(&(layer, hook)).map_or_else(Effects::default, of_nat),
            Hooked::BridgeNetfilter => {
                let inside = |layer: Layer| self.hooks.get(&(layer, hook)).into_iter().flatten().map(move |hooked| ((layer, hook), hooked.what));
                inside(Layer::Ip).chain(inside(Layer::Ip6)).map(|(at, what)| self.effects(at, what, of_chain)).collect()
            }
        }
    }
}

impl NfTable {
    fn new(table: &Table, links: &BTreeMap<String, u32>) -> Self {
        let rewrites = expressions(table).any(rewrites);
        let [added, deleted] = changed_sets(table);
        let set = |set: &Set| SearchSet {
            grows: set.flags.dynamic || set.flags.timeout || added.contains(set.name.as_str()),
            shrinks: deleted.contains(set.name.as_str()),
            ..SearchSet::new(set)
        };
        Self {
            family: table.family,
            name: table.name.clone(),
            chains: table.chains.clone(),
            shortcuts: if rewrites { Vec::new() } else { table.chains.iter().map(|chain| Shortcuts::new(chain, links)).collect() },
            by_name: table.chains.iter().enumerate().map(|(index, chain)| (chain.name.clone(), index)).collect(),
            sets: table.sets.iter().map(|one| (one.name.clone(), set(one))).collect(),
            whole: [false; 2],
        }
    }

    /// Whether fragments are put together before they come here.
    #[must_use]
    pub const fn sees_whole(&self, ipv4: bool) -> bool {
        let [whole4, whole6] = self.whole;
        if ipv4 { whole4 } else { whole6 }
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.chains.iter().flat_map(Chain::expressions)
    }

    /// The place of a chain.
    #[must_use]
    pub fn chain_named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What the rules of a chain ask for first; none where rules rewrite headers, so that it is not known when a chain begins.
    #[must_use]
    pub(crate) fn shortcuts(&self, chain: usize) -> Option<&Shortcuts> {
        self.shortcuts.get(chain)
    }

    /// A set.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&SearchSet> {
        self.sets.get(name)
    }
}

/// Whether rules of a table give helpers to connections, or expect connections themselves.
pub(super) fn expects(table: &Table) -> bool {
    let helps = |expression: &Expression| {
        matches!(
            expression,
            Expression::CtSet { key: CtKey::Helper, .. }
                | Expression::Objref { kind: HELPER | EXPECTATION, .. }
                | Expression::Target(Target::Ct { helper: Some(_), .. })
        )
    };
    table.objects.iter().any(|object| matches!(object.kind, HELPER | EXPECTATION)) || expressions(table).any(helps)
}

/// Whether connections are tracked because of an instruction (`nf_ct_netns_get`): then fragments are put together, too.
const fn tracks(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::Ct { .. }
            | Expression::CtSet { .. }
            | Expression::Masq { .. }
            | Expression::Match(Match::Conntrack(_) | Match::Connmark { .. })
            | Expression::Nat { .. }
            | Expression::Redir { .. }
            | Expression::Target(Target::Dnat(_) | Target::Masquerade(_) | Target::Netmap(_) | Target::Redirect(_) | Target::Snat(_))
    )
}

/// Whether a header may be another one after this.
const fn rewrites(expression: &Expression) -> bool {
    matches!(expression, Expression::PayloadSet { .. })
}

impl SearchSet {
    fn new(read: &Set) -> Self {
        let mut set = read.clone();
        let catch_all = set.elements.iter().find(|element| element.catch_all).cloned();
        set.elements.retain(|element| !element.catch_all);
        set.elements.sort_by(|left, right| left.from.cmp(&right.from));
        let one_number = set.fields.len() <= 1 && set.key_len <= 16;
        let keys = one_number.then(|| {
            let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
            Ranges::union_of(set.elements.iter().map(|element| (number(element.from.as_slice()), number(element.to.as_slice()))))
        });
        Self { set, catch_all, keys, grows: false, shrinks: false }
    }

    /// Whether an element that was found may be there no more.
    #[must_use]
    pub fn loses(&self, element: &Element) -> bool {
        self.shrinks || element.expires_ms.is_some()
    }
}
