//! The order in which chains, conntrack and nat run at a hook. `nf_hook_slow`, `nft_do_chain`.

use crate::model::netfilter::{Hooked, Layer};
use crate::model::order::Orders;
use crate::snapshot::{ChainKind, Hook, Link, Policy};

use super::rules::{At, Flow};
use super::trace::{Reason, What};
use super::{End, Place, Skb, Walker};

/// The links of a hook.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Links<'m> {
    pub(super) iif: Option<&'m Link>,
    pub(super) oif: Option<&'m Link>,
    pub(super) physical_out: Option<&'m Link>,
}

/// Chains of a bridge hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// After br_netfilter.
    After,
    /// Before br_netfilter.
    Before,
}

impl<'m> Walker<'m> {
    /// Runs an IP hook.
    pub(super) fn ip_hook(&mut self, namespace: usize, hook: Hook, links: Links<'m>, skb: &mut Skb) -> Result<(), End> {
        let layer = Self::layer_of(skb);
        let at = self.at(namespace, layer, hook, links, skb);
        self.undecided = match hook {
            Hook::Forward | Hook::Postrouting => self.model.others_redirect(namespace),
            Hook::Egress | Hook::Ingress | Hook::Other(_) | Hook::Output | Hook::Prerouting => true,
            Hook::Input => false,
        };
        for hooked in self.in_order(at.content.rules.at(layer, hook))? {
            let before = (hook == Hook::Output).then_some((skb.mark, skb.header));
            let flow = match hooked {
                Hooked::BridgeNetfilter => Flow::Next,
                Hooked::Conntrack => {
                    self.track(namespace, skb);
                    Flow::Next
                }
                Hooked::Nat => {
                    let flow = self.nat(&at, skb)?;
                    if flow != Flow::Drop && before.is_some_and(|(_, before)| before.destination != skb.header.destination) {
                        self.reroute(namespace, skb)?;
                    }
                    flow
                }
                Hooked::Chain(chain) => {
                    let here = At { chain: *chain, ..at };
                    let flow = self.base_chain(&here, skb)?;
                    let routes = at.content.rules.base(*chain).is_some_and(|base| base.kind == ChainKind::Route);
                    if routes && flow != Flow::Drop && before.is_some_and(|before| before != (skb.mark, skb.header)) {
                        self.reroute(namespace, skb)?;
                    }
                    flow
                }
            };
            if flow == Flow::Drop {
                return Err(self.dropped());
            }
        }
        Ok(())
    }

    /// Runs the chains of a bridge hook: all of them, or those that are on one side of br_netfilter.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    pub(super) fn bridge_hook(&mut self, namespace: usize, hook: Hook, links: Links<'m>, part: Part, skb: &mut Skb) -> Result<(), End> {
        let at = self.at(namespace, Layer::Bridge, hook, links, skb);
        let mut sides = self.in_order(at.content.rules.at(Layer::Bridge, hook))?.split(|hooked| *hooked == Hooked::BridgeNetfilter);
        let (before, after) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
        let (before, after) = match part {
            Part::All => (before, after),
            Part::Before => (before, [].as_slice()),
            Part::After => (after, [].as_slice()),
        };
        for hooked in before.iter().chain(after) {
            let Hooked::Chain(chain) = hooked else { continue };
            self.may_hide(skb);
            if self.base_chain(&At { chain: *chain, ..at }, skb)? == Flow::Drop {
                return Err(self.dropped());
            }
        }
        Ok(())
    }

    /// Runs the chains at the ingress or egress of a device.
    pub(super) fn device_hook(&mut self, place: Place, hook: Hook, skb: &mut Skb) -> Result<(), End> {
        let content = self.model.namespace(place.namespace);
        let Some(link) = content.links.get(&place.link) else {
            return Ok(());
        };
        let links = if hook == Hook::Egress { Links { oif: Some(link), ..Links::default() } } else { Links { iif: Some(link), ..Links::default() } };
        for chain in self.in_order(content.rules.at_device(hook, &link.name))? {
            self.may_hide(skb);
            let at = At { chain: *chain, ..self.at(place.namespace, Self::layer_of(skb), hook, links, skb) };
            if self.base_chain(&at, skb)? == Flow::Drop {
                return Err(self.dropped());
            }
        }
        Ok(())
    }

    /// What is hooked at one place, in one of the orders that it may have: the same whenever the packet comes there.
    pub(super) fn in_order<T: Copy>(&mut self, hooked: Option<&'m Orders<T>>) -> Result<&'m [T], End> {
        let Some(orders) = hooked else { return Ok(&[]) };
        let count = orders.count().ok_or_else(|| End::Unknown("too many chains of one priority".to_owned()))?;
        if count == 1 {
            return Ok(orders.nth(0));
        }
        let place = std::ptr::from_ref(orders).addr();
        let order = match self.orders.get(&place) {
            Some(order) => *order,
            None => self.choose(count, "which of several chains of one priority was hooked last, and is first"),
        };
        self.orders.insert(place, order);
        Ok(orders.nth(order))
    }

    /// A frame with a priority tag may as well have two: the kernel takes one off before rules see it.
    fn may_hide(&mut self, skb: &mut Skb) {
        if skb.hidden.is_none() && skb.frame.is_some_and(|frame| frame.tags.outer == Some(0)) {
            skb.hidden = Some(self.perhaps("whether a second priority tag hides the packet from rules that see frames"));
        }
    }

    /// Runs one base chain, with its policy.
    pub(super) fn base_chain(&mut self, at: &At<'m>, skb: &mut Skb) -> Result<Flow, End> {
        let Some(base) = at.content.rules.base(at.chain) else {
            return Ok(Flow::Next);
        };
        if let ChainKind::Other(kind) = &base.kind {
            return Err(End::Unknown(format!("a chain of type {kind}")));
        }
        self.silent = None;
        let flow = self.chain(at, at.chain.chain, skb, 0)?;
        if flow == Flow::Next && base.policy == Policy::Drop {
            self.note(at.namespace, What::Policy { hook: at.hook, layer: at.layer, chain: at.chain });
            return Ok(Flow::Drop);
        }
        Ok(flow)
    }

    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn at(&self, namespace: usize, layer: Layer, hook: Hook, links: Links<'m>, skb: &Skb) -> At<'m> {
        let content = self.model.namespace(namespace);
        let physical_in = skb.physical_in.filter(|place| place.namespace == namespace).and_then(|place| content.links.get(&place.link));
        At { namespace, content, layer, hook, iif: links.iif, oif: links.oif, physical_in, physical_out: links.physical_out, chain: Self::no_chain() }
    }

    /// The rule or policy that was noted last is what dropped the packet.
    fn dropped(&self) -> End {
        let reason = self.steps.last().map_or_else(|| Reason::text("dropped"), |step| Reason::hop(step.hop(self.model)));
        End::Dropped(reason)
    }
}
