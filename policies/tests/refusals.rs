//! What a client is told when it is refused: what to ask for in its place, and never of an object that it may not see.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::rc::Rc;

use engine::facts::{Facts, Object, ObjectKind, Owner, Reference};
use engine::{Headers, Route};
use policies::Policy;
use policies::decide::{Denial, DenialKind};

fn facts() -> Facts {
    let mut facts = Facts::default();
    for kind in [ObjectKind::Container, ObjectKind::Network, ObjectKind::Volume] {
        for (name, owner) in [("mine", Owner::Own), ("hers", Owner::Other), ("nobodys", Owner::Nobody)] {
            facts.insert(Reference { kind, name: name.to_owned() }, Some(Rc::new(Object::named(kind, name, owner))));
        }
    }
    facts
}

fn decide(policy: &str, method: &str, target: &str, body: &str) -> Option<Box<Denial>> {
    let headers = Headers { content_type: (!body.is_empty()).then_some("application/json"), ..Headers::default() };
    let mut request = Route::parse(method, target).unwrap().decode(&headers, body.as_bytes()).unwrap();
    let policy = Policy::shipped(policy).unwrap();
    policy.fill(&mut request);
    let facts = facts();
    request.bind(&facts);
    let demands = request.demands(&facts);
    policy.decide(request, &demands, "me").err()
}

#[test]
fn what_may_be_seen_is_refused_and_what_may_not_does_not_exist() {
    for (method, target) in [
        ("POST", "/v1.41/containers/hers/stop"),
        ("DELETE", "/v1.41/containers/hers"),
        ("DELETE", "/v1.41/networks/hers"),
        ("DELETE", "/v1.41/volumes/hers"),
    ] {
        let kinds = ["read-only", "ci"].map(|policy| decide(policy, method, target, "").unwrap().kind());
        assert_eq!(kinds, [DenialKind::NotGranted, DenialKind::Hidden], "{method} {target}");
    }
}

/// Names are the engine's, and one for all: that one is taken cannot be hidden, but everything else can.
#[test]
fn names_that_are_taken_are_told_alike() {
    for (kind, policy) in [("network", "ci"), ("volume", "ci"), ("volume", "admin")] {
        let told = ["hers", "nobodys"].map(|name| {
            let denial = decide(policy, "POST", &format!("/v1.41/{kind}s/create"), &format!("{{\"Name\":\"{name}\"}}")).unwrap();
            assert_eq!(denial.kind(), DenialKind::Conflict, "{kind} {name}");
            denial.to_string().replace(name, "NAME")
        });
        assert_eq!(told, [(); 2].map(|()| format!("{kind} with name NAME already exists")), "{policy}");
    }
    // One's own is given out again, as the engine does.
    assert!(decide("ci", "POST", "/v1.41/volumes/create", r#"{"Name":"mine"}"#).is_none());
}

#[test]
fn a_refusal_says_what_to_do_instead() {
    let create = |host: &str| ("/v1.41/containers/create", format!("{{\"Image\":\"debian\",\"HostConfig\":{host}}}"));
    for (policy, (target, body), told, not_told) in [
        ("ci", create(r#"{"Binds":["/var/run/docker.sock:/var/run/docker.sock"]}"#), "let seawall serve one for this client", "binds: ["),
        ("ci", create(r#"{"Binds":["/run/seawall/docker.sock:/s"]}"#), "binds: [{ source: /run/seawall/docker.sock, mode: rw }]", "whole host"),
        ("ci", create(r#"{"PortBindings":{"80/tcp":[{"HostPort":"80"}]}}"#), "`ports: [80]`", "80-80"),
        ("hardened", create("{}"), "`networks: [bridge]`; or name another network", "hers"),
        ("hardened", create(r#"{"NetworkMode":"none","CpuQuota":-1}"#), "a period together with a quota", "hers"),
        ("ci", ("/v1.41/session", String::new()), "DOCKER_BUILDKIT=0", "would be granted"),
        ("ci", ("/v1.41/build?version=2", String::new()), "DOCKER_BUILDKIT=0", "hers"),
        ("ci", ("/v1.41/images/create?fromImage=moby/buildkit&tag=buildx-stable-1", String::new()), "DOCKER_BUILDKIT=0", "would be granted"),
        ("ci", ("/v1.41/images/create?fromImage=testcontainers/ryuk&tag=0.5.1", String::new()), "TESTCONTAINERS_RYUK_DISABLED", "would be granted"),
        ("read-only", ("/v1.41/containers/mine/stop", String::new()), "operations: { container: { ContainerStop: own } }", "hers"),
    ] {
        let text = decide(policy, "POST", target, &body).unwrap().to_string();
        assert!(text.contains(told) && !text.contains(not_told), "{target} {body}: {text}");
    }
}

#[test]
fn hardened_lets_own_containers_be_attached_to_connected_and_published_on_loopback() {
    let create = |host: &str| format!("{{\"Image\":\"debian@sha256:{}\",\"HostConfig\":{host}}}", "0".repeat(64));
    for (target, body) in [
        ("/v1.41/containers/mine/attach?stream=1&stdin=1&stdout=1", String::new()),
        ("/v1.41/networks/mine/connect", r#"{"Container":"mine"}"#.to_owned()),
        ("/v1.41/networks/mine/disconnect", r#"{"Container":"mine"}"#.to_owned()),
        ("/v1.41/containers/create", create(r#"{"NetworkMode":"mine","PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1"}]}}"#)),
        ("/v1.41/containers/create", create(r#"{"NetworkMode":"mine","MemorySwap":268435456}"#)),
    ] {
        let denial = decide("hardened", "POST", target, &body);
        assert!(denial.is_none(), "{target}: {}", denial.unwrap());
    }
    for (target, body) in [
        ("/v1.41/containers/mine/exec", r#"{"Cmd":["sh"],"User":"1"}"#.to_owned()),
        ("/v1.41/networks/mine/connect", r#"{"Container":"hers"}"#.to_owned()),
        ("/v1.41/containers/create", create(r#"{"NetworkMode":"mine","PortBindings":{"80/tcp":[{"HostPort":""}]}}"#)),
        ("/v1.41/containers/create", create(r#"{"NetworkMode":"mine","PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"80"}]}}"#)),
    ] {
        assert!(decide("hardened", "POST", target, &body).is_some(), "{target} {body}");
    }
}
