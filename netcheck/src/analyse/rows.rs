//! The answers for all ordered pairs, kept as what was found of each origin: pairs are put together when they are asked for.
//!
//! A thousand endpoints make a million pairs, nearly all closed. What was found of an origin is shared by all that send alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::fib::number;
use crate::model::{EndpointKind, Model};
use crate::space::Ranges;

use super::group::{Groups, Origin};
use super::{Attacker, Explorer, Found, Pair, Reachability};

/// One endpoint: what it sends, and what there is to know of it as a sender and as a target.
#[derive(Debug, Clone)]
pub(super) struct Row {
    kind: EndpointKind,
    /// None: its namespace was not found.
    sends: Option<Sends>,
    sender: Sender,
    /// Whether its namespace could be read.
    entered: bool,
}

/// What was found for a sender.
#[derive(Debug, Clone)]
struct Sends {
    found: Arc<Found>,
    /// The namespace that was walked for it and others, and what was found of another one: for what is sent to the first itself.
    speaker: Option<(usize, Arc<Found>)>,
}

/// Addresses of one that a group speaks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    pub(super) namespace: usize,
    pub(super) own: Ranges,
    pub(super) usable: Vec<IpAddr>,
}

impl Sender {
    fn new(model: &Model, namespace: usize) -> Self {
        let addresses = || model.namespace(namespace).addresses();
        let own = Ranges::union_of(addresses().map(|own| (number(own.address.addr()), number(own.address.addr()))));
        Self { namespace, own, usable: addresses().filter(|own| !own.unusable).map(|own| own.address.addr()).collect() }
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.usable.contains(&address)
    }
}

/// Walks every origin, on all processors, and files what was found under the endpoints.
pub(super) fn rows(model: &Model, attacker: Attacker) -> Vec<Row> {
    let groups = Groups::new(model);
    let mut work: BTreeMap<Origin, Vec<Origin>> = BTreeMap::new();
    for endpoint in &model.endpoints {
        let origins = origins(&groups, endpoint.kind);
        if let Some(first) = origins.first() {
            work.entry(first.clone()).or_insert(origins);
        }
    }
    let found = explore(model, attacker, &work.into_values().collect::<Vec<_>>());
    model
        .endpoints
        .iter()
        .map(|endpoint| {
            let mut origins = origins(&groups, endpoint.kind).into_iter();
            let found_of = |origin: &Origin| found.get(origin).cloned();
            let first = origins.next();
            let second = origins.next().as_ref().and_then(found_of);
            let sends =
                first.as_ref().and_then(found_of).map(|found| Sends { found, speaker: first.and_then(|first| first.namespace()).zip(second) });
            let (sender, entered) = match endpoint.kind {
                EndpointKind::Inside(namespace) => (Sender::new(model, namespace), model.namespace(namespace).entered),
                EndpointKind::Lost | EndpointKind::Outside => (Sender::default(), true),
            };
            Row { kind: endpoint.kind, sends, sender, entered }
        })
        .collect()
}

/// Who is walked for an endpoint: for what it sends to most, and for what it sends to the first.
fn origins(groups: &Groups, kind: EndpointKind) -> Vec<Origin> {
    match kind {
        EndpointKind::Lost => Vec::new(),
        EndpointKind::Outside => vec![Origin::outside()],
        EndpointKind::Inside(namespace) => groups.origins(namespace),
    }
}

/// Explores origins; those that are listed together meet the same chains, so one explorer has them all.
fn explore(model: &Model, attacker: Attacker, work: &[Vec<Origin>]) -> BTreeMap<Origin, Arc<Found>> {
    let next = AtomicUsize::new(0);
    let explorer = || {
        let mut explorer = Explorer::new(model);
        let mut found = Vec::new();
        while let Some(origins) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            explorer.forget_chains();
            found.extend(origins.iter().map(|origin| (origin.clone(), Arc::new(explorer.explore_all(origin, attacker, None)))));
        }
        found
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get).min(work.len());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(explorer)).collect();
        let mut found: BTreeMap<Origin, Arc<Found>> = explorer().into_iter().collect();
        for other in others {
            match other.join() {
                Ok(more) => found.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    })
}

impl Reachability {
    /// What passes from one endpoint to another; none when there is no such pair. An empty pair is *closed*.
    #[must_use]
    pub fn pair(&self, from: &str, to: &str) -> Option<Pair> {
        let place = |name: &str| self.endpoints.binary_search_by(|endpoint| endpoint.as_str().cmp(name)).ok();
        let (from, to) = (self.rows.get(place(from)?)?, self.rows.get(place(to)?)?);
        (!std::ptr::eq(from, to)).then(|| self.between(from, to))
    }

    /// What passes, for every ordered pair, in the order of the names.
    pub fn pairs(&self) -> impl Iterator<Item = ((&str, &str), Pair)> {
        let named = || self.endpoints.iter().map(String::as_str).zip(&self.rows);
        named()
            .flat_map(move |(from, row)| named().filter(move |(to, _)| *to != from).map(move |(to, column)| ((from, to), self.between(row, column))))
    }

    fn between(&self, from: &Row, to: &Row) -> Pair {
        let Some(sends) = &from.sends else {
            return Pair::doubtful("its namespace was not found");
        };
        let found = match &sends.speaker {
            Some((speaker, second)) if to.kind == EndpointKind::Inside(*speaker) => second,
            _ => &sends.found,
        };
        let place = match to.kind {
            EndpointKind::Inside(_) if from.kind == to.kind => return Pair::shared(),
            EndpointKind::Inside(namespace) => Some(namespace),
            EndpointKind::Outside => None,
            EndpointKind::Lost => return Pair::doubtful("its namespace was not found"),
        };
        let pair = found.at(place, to.entered, self.gap.as_deref());
        if matches!(from.kind, EndpointKind::Inside(_)) { pair.sent_by(&from.sender) } else { pair }
    }
}
