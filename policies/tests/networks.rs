//! Networks that every engine has, and networks of somebody else, as clients are told of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::rc::Rc;

use engine::facts::{Facts, Object, ObjectKind, Owner, Reference};
use engine::{Headers, Route};
use policies::Policy;
use policies::decide::{Denial, DenialKind};

/// Decides with a `bridge`, a network `theirs`, and containers `mine` and `hers`.
fn decide(policy: &Policy, target: &str, body: &str) -> Result<(), Box<Denial>> {
    let mut facts = Facts::default();
    for (kind, name, owner) in [
        (ObjectKind::Network, "bridge", Owner::Nobody),
        (ObjectKind::Network, "host", Owner::Nobody),
        (ObjectKind::Network, "theirs", Owner::Other),
        (ObjectKind::Container, "mine", Owner::Own),
        (ObjectKind::Container, "hers", Owner::Other),
    ] {
        facts.insert(Reference { kind, name: name.to_owned() }, Some(Rc::new(Object::named(kind, name, owner))));
    }
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    let mut request = Route::parse("POST", target).unwrap().decode(&headers, body.as_bytes()).unwrap();
    policy.fill(&mut request);
    let demands = request.demands(&facts);
    policy.decide(request, &demands, "me").map(drop)
}

#[test]
fn own_containers_are_attached_to_a_shared_network_and_taken_from_it() {
    let ci = Policy::shipped("ci").unwrap();
    let without = Policy::compile("test", "version: 1\noperations: { network: { control: own } }\nnetworks: [own]\ncontainers: [own]", &|_, name| {
        Err(format!("no file {name}"))
    })
    .unwrap();
    for verb in ["connect", "disconnect"] {
        let target = |network: &str| format!("/v1.41/networks/{network}/{verb}");
        assert_eq!(decide(&ci, &target("bridge"), r#"{"Container":"mine"}"#), Ok(()), "{verb}");
        assert!(decide(&ci, &target("bridge"), r#"{"Container":"hers"}"#).is_err(), "{verb}");
        assert!(decide(&ci, &target("theirs"), r#"{"Container":"mine"}"#).is_err(), "{verb}");
        assert!(decide(&ci, &target("host"), r#"{"Container":"mine"}"#).is_err(), "{verb}");
        assert!(decide(&without, &target("bridge"), r#"{"Container":"mine"}"#).is_err(), "{verb}: not its network");
    }
}

/// A client takes 404 at a create for a missing image, and pulls it.
#[test]
fn a_create_with_a_network_that_is_not_granted_is_no_missing_image() {
    let create = |policy: &str, network: &str| {
        let body = format!("{{\"Image\":\"busybox:1\",\"HostConfig\":{{\"NetworkMode\":\"{network}\"}}}}");
        decide(&Policy::shipped(policy).unwrap(), "/v1.41/containers/create", &body).unwrap_err()
    };
    let denial = create("hardened", "default");
    assert_eq!(denial.kind(), DenialKind::NotGranted);
    assert!(denial.to_string().contains("networks: [bridge]"), "{denial}");
    let (foreign, missing) = (create("ci", "theirs"), create("ci", "nowhere"));
    assert_eq!((foreign.kind(), missing.kind()), (DenialKind::HiddenInCreate, DenialKind::HiddenInCreate));
    assert_eq!(foreign.to_string().replace("theirs", "nowhere"), missing.to_string(), "what is not theirs looks as if it did not exist");
}
