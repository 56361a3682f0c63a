//! Endpoints, with everything that a policy can tell them apart by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policies::isolation::{Membership, Party, PartyKind, Publication};

use crate::model::{Endpoint, EndpointKind, METADATA, Model};
use crate::snapshot::{Container, Engine, Namespace, PublishedPort, Snapshot};

/// The endpoints of a model.
#[must_use]
pub fn parties(snapshot: &Snapshot, model: &Model) -> Vec<Party> {
    let container = |endpoint: &Endpoint| snapshot.containers().get(endpoint.container?);
    model
        .endpoints
        .iter()
        .map(|endpoint| match (container(endpoint), endpoint.kind) {
            (Some(container), _) => of_container(snapshot, container, endpoint),
            (None, EndpointKind::Inside(place)) => of_namespace(snapshot, model, &endpoint.name, place),
            (None, EndpointKind::Metadata) => {
                Party { name: endpoint.name.clone(), kind: PartyKind::Metadata, addresses: METADATA.to_vec(), ..Party::default() }
            }
            (None, EndpointKind::Outside | EndpointKind::Lost) => Party { name: endpoint.name.clone(), kind: PartyKind::Outside, ..Party::default() },
        })
        .collect()
}

fn of_container(snapshot: &Snapshot, container: &Container, endpoint: &Endpoint) -> Party {
    let engine = snapshot.engine.as_ref();
    let place = match endpoint.kind {
        EndpointKind::Inside(place) => Some(place),
        EndpointKind::Lost | EndpointKind::Metadata | EndpointKind::Outside => None,
    };
    let namespace = place.and_then(|place| snapshot.namespaces.get(place));
    let owner = network_owner(snapshot, container);
    let on_host = container.namespace == Some(snapshot.this_host);
    Party {
        name: endpoint.name.clone(),
        kind: if on_host { PartyKind::Host } else { PartyKind::Container },
        namespace: container.namespace.map(|id| id.0),
        networks: owner.attachments.iter().map(|one| (one.network.clone(), membership(engine, &one.network))).collect(),
        labels: container.labels.clone(),
        project: container.project.clone(),
        service: container.service.clone(),
        addresses: namespace.map_or_else(Vec::new, addresses),
        published: owner.published.iter().filter_map(publication).collect(),
    }
}

/// A port that is published for TCP or UDP; nothing is said of other protocols.
fn publication(port: &PublishedPort) -> Option<Publication> {
    let udp = match port.protocol.as_str() {
        "tcp" => false,
        "udp" => true,
        _ => return None,
    };
    Some(Publication { udp, port: port.container_port, loopback: port.host_address.is_loopback() })
}

/// The container whose network this one has: itself, or the one it was started with (`--network container:x`).
fn network_owner<'a>(snapshot: &'a Snapshot, container: &'a Container) -> &'a Container {
    if !container.attachments.is_empty() {
        return container;
    }
    let shares = |other: &&Container| other.namespace == container.namespace && !other.attachments.is_empty();
    snapshot.containers().iter().filter(|_| container.namespace.is_some()).find(shares).unwrap_or(container)
}

fn membership(engine: Option<&Engine>, name: &str) -> Membership {
    let network = engine.and_then(|engine| engine.networks.iter().find(|network| network.name == name));
    network.map_or(Membership { internal: false, icc: true }, |network| Membership { internal: network.internal, icc: network.icc })
}

fn of_namespace(snapshot: &Snapshot, model: &Model, name: &str, place: usize) -> Party {
    let namespace = snapshot.namespaces.get(place);
    let networks = namespace.map_or_else(BTreeMap::new, |namespace| bridges(snapshot, namespace));
    let kind = if place == model.host {
        PartyKind::Host
    } else if snapshot.engine.is_none() && !networks.is_empty() {
        PartyKind::Container
    } else if namespace.is_some_and(|namespace| is_on_uplink(snapshot, model, namespace)) {
        PartyKind::Outside
    } else {
        PartyKind::Namespace
    };
    Party {
        name: name.to_owned(),
        kind,
        namespace: namespace.map(|namespace| namespace.id.0),
        networks: if kind == PartyKind::Container { networks } else { BTreeMap::new() },
        addresses: namespace.map_or_else(Vec::new, addresses),
        ..Party::default()
    }
}

/// A namespace that is wired to the host's uplink and to nothing else of the host is a neighbour there.
fn is_on_uplink(snapshot: &Snapshot, model: &Model, namespace: &Namespace) -> bool {
    let to_host = namespace.links.iter().filter_map(|link| link.peer).filter(|peer| peer.namespace == Some(snapshot.this_host));
    let on_uplink = |index: u32| model.uplinks.iter().any(|uplink| uplink.namespace == model.host && uplink.link == index);
    let mut ends = to_host.map(|peer| on_uplink(peer.index)).peekable();
    ends.peek().is_some() && ends.all(|on_uplink| on_uplink)
}

/// Bridges of the host that a namespace is on. Without an engine they are the networks.
fn bridges(snapshot: &Snapshot, namespace: &Namespace) -> BTreeMap<String, Membership> {
    let Some(host) = snapshot.namespace(snapshot.this_host) else { return BTreeMap::new() };
    let bridge = |link: &crate::snapshot::Link| {
        let peer = link.peer.filter(|peer| peer.namespace == Some(host.id))?;
        let bridge = host.link(host.link(peer.index)?.master?)?;
        Some((bridge.name.clone(), Membership { internal: false, icc: true }))
    };
    namespace.links.iter().filter_map(bridge).collect()
}

fn addresses(namespace: &Namespace) -> Vec<IpAddr> {
    let own = namespace.addresses.iter().map(|address| address.address.addr());
    own.filter(|address| !address.is_loopback() && !is_link_local(*address)).collect()
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
