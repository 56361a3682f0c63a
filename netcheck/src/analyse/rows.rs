//! The answers for all ordered pairs, kept as what was found of each origin: pairs are put together when they are asked for.
//!
//! A thousand endpoints make a million pairs, nearly all closed. What was found of an origin is shared by all that send alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::fib::number;
use crate::model::{Endpoint, EndpointKind, METADATA, Model};
use crate::space::Ranges;
use crate::walk::address_of;

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
    /// What it can send to the metadata service; none from outside.
    metadata: Option<Arc<Pair>>,
    /// The namespace that was walked for it and others, and what was found of another one: for what is sent to the first itself.
    speaker: Option<(usize, Arc<Found>)>,
}

/// One that a group may speak for, and the addresses that it sends from.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    pub(super) namespace: usize,
    /// Of its links, loopback last.
    usable: Vec<IpAddr>,
    /// Of IPv4, what else is local.
    local4: Ranges,
}

impl Sender {
    fn new(model: &Model, namespace: usize) -> Self {
        let usable = model.namespace(namespace).addresses().filter(|own| !own.unusable).map(|own| own.address.addr());
        let (loopback, others): (Vec<IpAddr>, Vec<IpAddr>) = usable.partition(IpAddr::is_loopback);
        Self { namespace, usable: [others, loopback].concat(), local4: model.own(namespace, true).clone() }
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.usable.contains(&address) || address.is_ipv4() && self.local4.contains(number(address))
    }

    /// One of its own addresses that is among these.
    pub(super) fn one_of(&self, sources: &Ranges, ipv4: bool) -> Option<IpAddr> {
        let usable = self.usable.iter().copied().find(|own| own.is_ipv4() == ipv4 && sources.contains(number(*own)));
        let local = || sources.intersect(&self.local4).first().filter(|_| ipv4);
        usable.or_else(|| local().map(|source| address_of(source, ipv4)))
    }
}

/// What is explored for endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// Everything that an origin can send.
    All(Origin),
    /// What it can send to the metadata service.
    Metadata(Origin),
}

/// What came of a task.
#[derive(Debug, Clone)]
enum Done {
    All(Arc<Found>),
    Metadata(Arc<Pair>),
}

/// What is explored for one endpoint.
#[derive(Debug, Default)]
struct Tasks {
    /// For what it sends to most, and for what it sends to the first of its group.
    origins: Vec<Origin>,
    metadata: Option<Origin>,
}

impl Tasks {
    /// `takers` are who take the metadata service's addresses for their own.
    fn new(groups: &Groups, takers: &[usize], kind: EndpointKind) -> Self {
        match kind {
            EndpointKind::Lost | EndpointKind::Metadata => Self::default(),
            EndpointKind::Outside => Self { origins: vec![Origin::outside()], metadata: None },
            EndpointKind::Inside(namespace) => {
                let origins = groups.origins(namespace);
                // One of a group that takes these addresses for its own speaks for nobody else, nor do others for it.
                let shared = origins.first().filter(|origin| !takers.iter().any(|taker| origin.members().contains(taker)));
                let metadata = shared.cloned().unwrap_or_else(|| Origin::only(Some(namespace)));
                Self { origins, metadata: Some(metadata) }
            }
        }
    }

    fn list(&self) -> impl Iterator<Item = Task> + '_ {
        self.origins.iter().cloned().map(Task::All).chain(self.metadata.iter().cloned().map(Task::Metadata))
    }
}

/// Namespaces that deliver the metadata service's addresses to themselves.
fn metadata_takers(model: &Model) -> Vec<usize> {
    METADATA.iter().flat_map(|address| model.owners(&Ranges::one(number(*address)), address.is_ipv4()).0).collect()
}

/// Walks every origin, on all processors, and files what was found under the endpoints.
/// How many classes were walked for it is counted.
pub(super) fn rows(model: &Model, attacker: Attacker, most_looks: u64) -> (Vec<Row>, usize) {
    let groups = Arc::new(Groups::new(model));
    let takers = metadata_takers(model);
    let tasks: Vec<Tasks> = model.endpoints.iter().map(|endpoint| Tasks::new(&groups, &takers, endpoint.kind)).collect();
    let mut work: BTreeMap<&Origin, BTreeSet<Task>> = BTreeMap::new();
    for tasks in &tasks {
        if let Some(first) = tasks.origins.first() {
            work.entry(first).or_default().extend(tasks.list());
        }
    }
    let (done, classes) =
        explore(|| Explorer { most_looks, groups: Arc::clone(&groups), ..Explorer::new(model) }, attacker, &work.into_values().collect::<Vec<_>>());
    let found = |origin: &Origin| match done.get(&Task::All(origin.clone())) {
        Some(Done::All(found)) => Some(Arc::clone(found)),
        Some(Done::Metadata(_)) | None => None,
    };
    let metadata = |origin: &Origin| match done.get(&Task::Metadata(origin.clone())) {
        Some(Done::Metadata(pair)) => Some(Arc::clone(pair)),
        Some(Done::All(_)) | None => None,
    };
    let row = |(endpoint, tasks): (&Endpoint, &Tasks)| {
        let first = tasks.origins.first();
        let second = tasks.origins.get(1).and_then(found);
        let sends = first.and_then(found).map(|found| Sends {
            found,
            metadata: tasks.metadata.as_ref().and_then(metadata),
            speaker: first.and_then(Origin::namespace).zip(second),
        });
        let (sender, entered) = match endpoint.kind {
            EndpointKind::Inside(namespace) => (Sender::new(model, namespace), model.namespace(namespace).entered),
            EndpointKind::Lost | EndpointKind::Metadata | EndpointKind::Outside => (Sender::default(), true),
        };
        Row { kind: endpoint.kind, sends, sender, entered }
    };
    (model.endpoints.iter().zip(&tasks).map(row).collect(), classes)
}

/// Explores origins; those that are listed together meet the same chains, so one explorer has them all.
fn explore<'m>(new: impl Fn() -> Explorer<'m> + Sync, attacker: Attacker, work: &[BTreeSet<Task>]) -> (BTreeMap<Task, Done>, usize) {
    let next = AtomicUsize::new(0);
    let explorer = || {
        let mut explorer = new();
        let mut done = Vec::new();
        while let Some(tasks) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            explorer.forget_chains();
            for task in tasks {
                let of = match task {
                    Task::All(origin) => Done::All(Arc::new(explorer.explore_all(origin, attacker, None))),
                    Task::Metadata(origin) => Done::Metadata(Arc::new(explorer.metadata(origin, attacker))),
                };
                done.push((task.clone(), of));
            }
        }
        (done, explorer.classes)
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get).min(work.len());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(explorer)).collect();
        let (own, mut classes) = explorer();
        let mut done: BTreeMap<Task, Done> = own.into_iter().collect();
        for other in others {
            match other.join() {
                Ok((more, of_other)) => {
                    done.extend(more);
                    classes += of_other;
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (done, classes)
    })
}

impl Reachability {
    /// What passes from one endpoint to another; none when there is no such pair. An empty pair is *closed*.
    #[must_use]
    pub fn pair(&self, from: &str, to: &str) -> Option<Pair> {
        let place = |name: &str| self.endpoints.binary_search_by(|endpoint| endpoint.as_str().cmp(name)).ok();
        let (from, to) = (self.rows.get(place(from)?)?, self.rows.get(place(to)?)?);
        if std::ptr::eq(from, to) { None } else { self.between(from, to) }
    }

    /// What passes, for every ordered pair, in the order of the names.
    pub fn pairs(&self) -> impl Iterator<Item = ((&str, &str), Pair)> {
        let named = || self.endpoints.iter().map(String::as_str).zip(&self.rows);
        named().flat_map(move |(from, row)| {
            let others = named().filter(move |(to, _)| *to != from);
            others.filter_map(move |(to, column)| Some(((from, to), self.between(row, column)?)))
        })
    }

    /// None: the metadata service sends nothing, and only namespaces send to it.
    fn between(&self, from: &Row, to: &Row) -> Option<Pair> {
        let origin = match from.kind {
            EndpointKind::Inside(namespace) => Some(namespace),
            EndpointKind::Lost | EndpointKind::Metadata | EndpointKind::Outside => None,
        };
        let by_sender = |pair: Pair| if origin.is_some() { pair.sent_by(&from.sender) } else { pair };
        if from.kind == EndpointKind::Metadata {
            return None;
        }
        if from.kind == EndpointKind::Lost {
            return Some(Pair::doubtful("its namespace was not found"));
        }
        if to.kind == EndpointKind::Metadata {
            return from.sends.as_ref().and_then(|sends| sends.metadata.as_deref()).cloned().map(by_sender);
        }
        let Some(sends) = &from.sends else {
            return Some(Pair::doubtful("its namespace was not found"));
        };
        let found = match &sends.speaker {
            Some((speaker, second)) if to.kind == EndpointKind::Inside(*speaker) => second,
            _ => &sends.found,
        };
        Some(by_sender(found.sent(origin, to.kind, to.entered, self.gap.as_deref())))
    }
}
