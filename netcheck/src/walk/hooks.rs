//! The order in which chains, conntrack and nat run at a hook. `nf_hook_slow`, `nft_do_chain`.

use crate::model::netfilter::{ChainAt, Hooked, Layer};
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
        for hooked in at.content.rules.at(layer, hook) {
            let before = (skb.mark, skb.header);
            let flow = match hooked {
                Hooked::Conntrack => {
                    self.track(namespace, skb);
                    Flow::Next
                }
                Hooked::Nat => {
                    let flow = self.nat(&at, skb)?;
                    if hook == Hook::Output && flow != Flow::Drop && before.1.destination != skb.header.destination {
                        self.reroute(namespace, skb)?;
                    }
                    flow
                }
                Hooked::Chain(chain) => {
                    let here = At { chain: *chain, ..at };
                    let flow = self.base_chain(&here, skb)?;
                    let routes = at.content.rules.base(*chain).is_some_and(|base| base.kind == ChainKind::Route);
                    if routes && hook == Hook::Output && flow != Flow::Drop && before != (skb.mark, skb.header) {
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

    /// Runs the chains of a bridge hook whose priority is within these bounds.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    pub(super) fn bridge_hook(
        &mut self,
        namespace: usize,
        hook: Hook,
        links: Links<'m>,
        priorities: std::ops::RangeInclusive<i32>,
        skb: &mut Skb,
    ) -> Result<(), End> {
        let at = self.at(namespace, Layer::Bridge, hook, links, skb);
        for hooked in at.content.rules.at(Layer::Bridge, hook) {
            let Hooked::Chain(chain) = hooked else {
                continue;
            };
            if !at.content.rules.base(*chain).is_some_and(|base| priorities.contains(&base.priority)) {
                continue;
            }
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
        let chains: Vec<ChainAt> = content.rules.at_device(hook, &link.name).collect();
        let mut ordered: Vec<(i32, ChainAt)> =
            chains.into_iter().map(|chain| (content.rules.base(chain).map_or(0, |base| base.priority), chain)).collect();
        ordered.sort_by_key(|(priority, _)| *priority);
        for (_, chain) in ordered {
            self.may_hide(skb);
            let at = At { chain, ..self.at(place.namespace, Self::layer_of(skb), hook, links, skb) };
            if self.base_chain(&at, skb)? == Flow::Drop {
                return Err(self.dropped());
            }
        }
        Ok(())
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
