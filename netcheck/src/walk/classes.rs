//! Packets that are walked together: what was found of the numbers they differ in, and which packets that leaves.
//!
//! A walk follows one packet. Whatever it asks of a number that differs between the packets of a class is kept as a condition, and
//! at the end the conditions say which of them went the same way for the same reasons. Two numbers differ that no sender chose:
//!
//! - *The way out.* Routing an address picks a link, and what happens next may hang on the link alone: a rule that drops whatever
//!   leaves by any other bridge. While FORWARD runs the way is open: rules' questions about the link are conditions on it, and if the
//!   packet is dropped, all addresses go the same way that are routed by a link for which the answers are the same. Once anything
//!   else is asked of the link, or the packet passes, only addresses with the same route do.
//! - *The target of a translation.* Rules that do nothing but translate, each for its port, are walked as one: address and port are
//!   variables from there on, and conditions on them say which of the rules, so which ports.

use std::rc::Rc;

use crate::model::dispatch::{Dispatch, Met, Out, Partition, Translations};
use crate::model::fib::Fib;
use crate::model::netfilter::{ChainAt, Layer};
use crate::model::shortcut::{Guard, Head, Shortcuts};
use crate::snapshot::{Hook, Link};
use crate::space::{Field, Ranges};

use super::header::{Number, Variable};
use super::rules::At;
use super::{Condition, Skb, Walker};

/// So many addresses may be looked at one by one, of each way to make packets of a protocol: more than a bridge has neighbours.
const MOST_PINNED: usize = 1024;

/// The way out, while it is open.
#[derive(Debug)]
pub(super) struct OpenWay<'m> {
    pub(super) fib: &'m Fib,
    /// The destination that was routed.
    pub(super) destination: Variable,
    /// What else has the very same route.
    pub(super) addresses: Ranges,
    /// The link that the walk goes by.
    pub(super) link: u32,
    /// What was asked of the link; none once it was asked too much.
    pub(super) conditions: Option<Vec<Condition>>,
}

/// What a rule's guards say of a packet.
pub(super) enum Guarded {
    /// One of them does not hold.
    Fails,
    /// All of them hold.
    Holds,
    /// It is not known: the instructions have to say.
    Unsure,
}

impl Condition {
    /// What of these numbers all conditions hold for.
    fn all_of<'c>(conditions: impl Iterator<Item = &'c Self>, mut numbers: Ranges) -> Ranges {
        // Single numbers are left out together: a large set is then made anew once.
        let mut out = Vec::new();
        for condition in conditions {
            match condition {
                Self::In(ranges) => numbers = numbers.intersect(ranges),
                Self::NotIn(ranges) => numbers = numbers.subtract(ranges),
                Self::NotBetween(first, last) => out.push((*first, *last)),
            }
        }
        if out.is_empty() { numbers } else { numbers.subtract(&Ranges::union_of(out)) }
    }

    fn holds(&self, value: u128) -> bool {
        match self {
            Self::In(ranges) => ranges.contains(value),
            Self::NotIn(ranges) => !ranges.contains(value),
            Self::NotBetween(first, last) => !(*first..=*last).contains(&value),
        }
    }
}

impl<'m> Walker<'m> {
    /// Keeps to packets with this very value, because it is used in a way that is not followed symbolically.
    pub(super) fn pin(&mut self, number: Number) {
        if let Some(variable) = number.field {
            self.pin_to(variable, number.value);
        }
    }

    /// Keeps to packets for which a variable has this very value, unless that was done for too many addresses already.
    fn pin_to(&mut self, variable: Variable, value: u128) {
        if let Variable::Sent(field @ (Field::Source | Field::Destination)) = variable
            && self.is_free(variable)
            && !self.pinned.contains(&(field, value))
        {
            if self.pinned.len() >= MOST_PINNED {
                self.overrun = true;
                return;
            }
            self.pinned.insert((field, value));
        }
        self.narrow(variable, &Ranges::one(value));
    }

    /// Begins packets that are made in another way: of these, too, some values may be looked at one by one.
    pub(crate) fn forget_pinned(&mut self) {
        self.pinned.clear();
    }

    /// Keeps to packets whose number is in `ranges`.
    pub(super) fn narrow_number(&mut self, number: Number, ranges: &Ranges) {
        if let Some(variable) = number.field {
            self.narrow(variable, ranges);
        }
    }

    /// Keeps to packets whose number is not in `ranges`.
    pub(super) fn exclude_number(&mut self, number: Number, ranges: &Ranges) {
        if let Some(variable) = number.field {
            self.exclude(variable, ranges);
        }
    }

    /// Keeps to packets for which a variable is as for this one.
    pub(super) fn pin_variable(&mut self, skb: &Skb, variable: Variable) {
        self.pin_to(variable, skb.value(variable));
    }

    /// Keeps to packets that are translated to this very address and port.
    pub(super) fn pin_translation(&mut self, skb: &Skb) {
        self.pin_variable(skb, Variable::Address);
        self.pin_variable(skb, Variable::Port);
    }

    /// Keeps to packets for which this is in `ranges`.
    pub(super) fn narrow(&mut self, variable: Variable, ranges: &Ranges) {
        if self.is_free(variable) {
            self.conditions.push((variable, Condition::In(ranges.clone())));
        }
    }

    /// Keeps to packets for which this is not in `ranges`.
    pub(super) fn exclude(&mut self, variable: Variable, ranges: &Ranges) {
        if self.is_free(variable) {
            let condition =
                ranges.as_one_range().map_or_else(|| Condition::NotIn(ranges.clone()), |(first, last)| Condition::NotBetween(first, last));
            self.conditions.push((variable, condition));
        }
    }

    pub(super) fn is_free(&self, variable: Variable) -> bool {
        match variable {
            Variable::Sent(field) => self.free.get(field.index()).copied().unwrap_or(false),
            Variable::Address | Variable::Port => self.translated.is_some(),
        }
    }

    /// Applies what was found.
    pub(super) fn settle(&mut self) {
        self.close_way(false);
        self.settle_translation();
        for field in Field::ALL {
            let asked = || self.conditions.iter().filter(|(of, _)| *of == Variable::Sent(field)).map(|(_, condition)| condition);
            if self.is_free(Variable::Sent(field)) && asked().next().is_some() {
                let values = Condition::all_of(asked(), self.space.of(field).clone());
                self.space.set(field, values);
            }
        }
        self.conditions.clear();
    }

    /// Says what was found of a translation's target in terms of the port that the packet was sent to.
    fn settle_translation(&mut self) {
        let Some(translated) = self.translated.clone() else { return };
        let asked = |variable: Variable| self.conditions.iter().filter(move |(of, _)| *of == variable).map(|(_, condition)| condition);
        let addresses = Condition::all_of(asked(Variable::Address), translated.addresses.clone());
        let ports = translated.sent(&addresses, &Condition::all_of(asked(Variable::Port), Translations::all_ports()));
        self.narrow(Variable::Sent(Field::DestinationPort), &ports);
    }

    /// Opens the way out of a packet that was routed by `link`: `condition` says what else has the same route.
    pub(super) fn open_way(&mut self, fib: &'m Fib, number: Number, link: u32, before: usize) {
        let Some(destination) = number.field.filter(|variable| self.is_free(*variable)) else { return };
        if !fib.is_plain(number.value, link) {
            return;
        }
        // The main table's answer was the last to be noted.
        if let Some((variable, Condition::In(addresses))) = self.conditions.get(before..).and_then(<[_]>::last)
            && *variable == destination
        {
            let addresses = addresses.clone();
            self.conditions.pop();
            self.open_way = Some(OpenWay { fib, destination, addresses, link, conditions: Some(Vec::new()) });
        }
    }

    /// Ends what [`Self::open_way`] began: of a packet that was dropped on the way, only what was asked of the link matters.
    pub(super) fn close_way(&mut self, dropped: bool) {
        let Some(way) = self.open_way.take() else { return };
        let addresses = match way.conditions.filter(|_| dropped) {
            None => way.addresses,
            Some(asked) => self.routed_alike(way.fib, asked),
        };
        self.narrow(way.destination, &addresses);
    }

    /// Addresses that are routed by links for which these answers hold; what was asked last is often asked again.
    fn routed_alike(&mut self, fib: &'m Fib, asked: Vec<Condition>) -> Ranges {
        if let Some((_, _, addresses)) = self.routed.iter().find(|(of, conditions, _)| std::ptr::eq(*of, fib) && *conditions == asked) {
            return addresses.clone();
        }
        let addresses = fib.plainly_by(|link| asked.iter().all(|condition| condition.holds(u128::from(link))));
        self.routed.push((fib, asked, addresses.clone()));
        addresses
    }

    /// Notes an answer about the link by which the packet goes out.
    pub(super) fn ask_way(&mut self, condition: impl FnOnce() -> Condition) {
        if let Some(asked) = self.open_way.as_mut().and_then(|way| way.conditions.as_mut()) {
            asked.push(condition());
        }
    }

    /// The link by which the packet goes out, for questions that are not followed symbolically.
    pub(super) fn way_out(&mut self, at: &At<'m>) -> Option<&'m Link> {
        if at.hook == Hook::Forward
            && let Some(way) = &mut self.open_way
        {
            way.conditions = None;
        }
        at.oif
    }

    /// What is known of a packet when a chain begins.
    fn met(&self, at: &At<'m>, skb: &Skb) -> Met {
        let open = self.open_way.as_ref().is_some_and(|way| way.conditions.is_some() && at.oif.is_some_and(|link| link.index == way.link));
        let out = if open && at.hook == Hook::Forward { Out::Open } else { Out::By(at.oif.map(|link| link.index)) };
        let ports = skb.header.transport.ports().is_some();
        Met { iif: at.iif.map(|link| link.index), out, protocol: skb.header.protocol, ipv4: skb.header.ipv4, ports }
    }

    /// The rules of a chain that the packet can meet.
    pub(super) fn dispatch(&mut self, at: &At<'m>, chain: usize, shortcuts: &'m Shortcuts, skb: &Skb) -> Rc<Dispatch> {
        let met = self.met(at, skb);
        let place = (at.namespace, ChainAt { chain, ..at.chain }, met);
        Rc::clone(self.dispatches.entry(place).or_insert_with(|| Rc::new(Dispatch::new(shortcuts, met))))
    }

    /// Forgets what holds for packets that come by the same link: there is much of it.
    pub(crate) fn forget_dispatches(&mut self) {
        self.dispatches.clear();
        self.routed.clear();
    }

    /// Keeps to packets for which a partition has rules of the same shapes.
    pub(super) fn keep_class(&mut self, number: Number, partition: &Partition) {
        if let (Some(variable), false) = (number.field, partition.is_empty()) {
            match partition.find(number.value).1 {
                Some(class) => self.narrow(variable, &class.values),
                None => self.exclude(variable, &partition.keys),
            }
        }
    }

    /// The same for the way out, while it is open.
    pub(super) fn keep_way(&mut self, at: &At<'m>, partition: &Partition) {
        let (false, Some(link)) = (partition.is_empty(), at.oif) else { return };
        match partition.find(u128::from(link.index)).1 {
            Some(class) => self.ask_way(|| Condition::In(class.values.clone())),
            None => self.ask_way(|| Condition::NotIn(partition.keys.clone())),
        }
    }

    /// Whether packets differ in this port because they were sent to different ones.
    pub(super) fn differ_in_port(&self, port: Number) -> bool {
        port.field == Some(Variable::Sent(Field::DestinationPort))
            && self.translated.is_none()
            && self.is_free(Variable::Sent(Field::DestinationPort))
    }

    /// What a rule's guards say besides the one that it was found by; keeps to packets for which they say the same.
    pub(super) fn guarded(&mut self, at: &At<'m>, skb: &Skb, head: &Head, dispatch: &Dispatch) -> Guarded {
        let found = dispatch.found(head);
        let guards = || head.guards.iter().filter(|guard| found.is_none_or(|found| guard.found(dispatch.open) != Some(found)));
        let mut costly = None;
        let mut unsure = false;
        for guard in guards() {
            match self.asks(at, skb, guard) {
                Asked::Holds => {}
                Asked::Fails => return Guarded::Fails,
                Asked::Unsure => unsure = true,
                Asked::Of(question) if question.holds() => {}
                Asked::Of(question) if question.is_free(self) => costly = costly.or(Some(question)),
                Asked::Of(_) => return Guarded::Fails,
            }
        }
        if let Some(question) = costly {
            self.note_answer(question);
            return Guarded::Fails;
        }
        if unsure {
            return Guarded::Unsure;
        }
        for guard in guards() {
            if let Asked::Of(question) = self.asks(at, skb, guard) {
                self.note_answer(question);
            }
        }
        Guarded::Holds
    }

    /// What a guard asks of a packet.
    fn asks(&self, at: &At<'m>, skb: &Skb, guard: &Guard) -> Asked {
        let sure = |holds: bool| if holds { Asked::Holds } else { Asked::Fails };
        let of = |number: Number, value: u128, is: bool| {
            if !number.known {
                return Asked::Unsure;
            }
            number.field.map_or_else(
                || sure((number.value == value) == is),
                |variable| Asked::Of(Question { of: Some(variable), own: number.value, value, is }),
            )
        };
        match guard {
            Guard::Family { ipv4, is } => sure((skb.header.ipv4 == *ipv4) == *is),
            Guard::Protocol { ipv4_only: true, .. } if !skb.header.ipv4 => Asked::Unsure,
            Guard::Protocol { number, is, .. } => sure((skb.header.protocol == *number) == *is),
            Guard::Link { out: false, index, is } => sure((index.is_some() && at.iif.map(|link| link.index) == *index) == *is),
            Guard::Link { out: true, index, is } => match (&self.open_way, index, at.oif) {
                (Some(_), Some(index), Some(link)) if at.hook == Hook::Forward => {
                    Asked::Of(Question { of: None, own: u128::from(link.index), value: u128::from(*index), is: *is })
                }
                (_, _, link) => sure((index.is_some() && link.map(|link| link.index) == *index) == *is),
            },
            Guard::Address { ipv4, .. } if *ipv4 != skb.header.ipv4 => Asked::Unsure,
            Guard::Address { source: true, value, is, .. } => of(skb.header.source, *value, *is),
            Guard::Address { source: false, value, is, .. } => of(skb.header.destination, *value, *is),
            Guard::Port { .. } if skb.header.transport.ports().is_none() => Asked::Unsure,
            Guard::Port { source: true, port, is } => of(skb.header.source_port, u128::from(*port), *is),
            Guard::Port { source: false, port, is } => of(skb.header.destination_port, u128::from(*port), *is),
        }
    }

    fn note_answer(&mut self, question: Question) {
        let Question { of, own, value, .. } = question;
        let condition = || if own == value { Condition::In(Ranges::one(value)) } else { Condition::NotBetween(value, value) };
        match of {
            Some(variable) if self.is_free(variable) => self.conditions.push((variable, condition())),
            Some(_) => {}
            None => self.ask_way(condition),
        }
    }

    /// The layer of a packet.
    pub(super) const fn layer_of(skb: &Skb) -> Layer {
        if skb.header.ipv4 { Layer::Ip } else { Layer::Ip6 }
    }
}

/// What a guard asks.
enum Asked {
    Fails,
    Holds,
    Of(Question),
    Unsure,
}

/// Whether a number is this value.
#[derive(Clone, Copy)]
struct Question {
    /// None: the link by which the packet goes out.
    of: Option<Variable>,
    own: u128,
    value: u128,
    is: bool,
}

impl Question {
    const fn holds(&self) -> bool {
        (self.own == self.value) == self.is
    }

    fn is_free(&self, walker: &Walker<'_>) -> bool {
        match self.of {
            Some(variable) => walker.is_free(variable),
            None => walker.open_way.as_ref().is_some_and(|way| way.conditions.is_some()),
        }
    }
}

impl Skb {
    /// What this packet has for what may differ between those that are walked with it.
    pub(super) fn value(&self, variable: Variable) -> u128 {
        match variable {
            Variable::Address => self.translated.0,
            Variable::Port => u128::from(self.translated.1),
            Variable::Sent(field) => self.sent.get(field.index()).copied().unwrap_or(0),
        }
    }
}
