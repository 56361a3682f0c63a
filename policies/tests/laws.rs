//! Laws of the decision, tried at random.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on says so")]

use std::collections::BTreeMap;

use engine::demand::{Demands, Flag};
use engine::facts::Facts;
use engine::{Headers, Request, Route, Version};
use policies::Policy;
use proptest::prelude::*;

/// Lines of policies, each a policy of its own.
const GRANTS: &[&str] = &[
    "include: [ci]",
    "include: [hardened]",
    "include: [read-only]",
    "allow: [privileged, host-network, host-pid]",
    "allow: [writable-rootfs, root-user, new-privileges, mutable-tag]",
    "operations: { container: { create: own } }",
    "images: ['**']",
    "binds: [{ source: /, mode: rw }]",
    "capabilities: [default]",
    "capabilities: [all]",
    "limits: { memory: unlimited, pids: unlimited, cpus: unlimited }",
    "limits: { memory: 1g }",
    "networks: [all]",
    "volumes: [own]",
    "ports: [1-65535, ephemeral]",
];

/// Members of `HostConfig`, in fragments of JSON.
const MEMBERS: &[&str] = &[
    "\"Privileged\":true",
    "\"NetworkMode\":\"host\"",
    "\"PidMode\":\"host\"",
    "\"Memory\":536870912",
    "\"PidsLimit\":10",
    "\"NanoCpus\":1000000000",
    "\"ReadonlyRootfs\":true",
    "\"CapDrop\":[\"ALL\"]",
    "\"CapAdd\":[\"SYS_ADMIN\"]",
    "\"Binds\":[\"/etc:/x:ro\",\"vol:/y\"]",
    "\"SecurityOpt\":[\"no-new-privileges\"]",
    "\"MaskedPaths\":[]",
    "\"Sysctls\":{\"net.core.somaxconn\":\"1\"}",
    "\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"8080\"}]}",
    "\"Runtime\":\"runc\"",
    "\"LogConfig\":{\"Type\":\"syslog\",\"Config\":{}}",
    "\"Devices\":[{\"PathOnHost\":\"/dev/fuse\"}]",
    "\"Tmpfs\":{\"/x\":\"exec\"}",
    "\"ExtraHosts\":[\"a:host-gateway\"]",
    "\"ShmSize\":1024",
];

fn policy(grants: &[usize]) -> Policy {
    let read = |_: &str, name: &str| {
        let place: usize = name.trim_start_matches("./").parse().unwrap();
        Ok((name.to_owned(), format!("version: 1\n{}", GRANTS[place])))
    };
    let includes: Vec<String> = grants.iter().map(|grant| format!("./{grant}")).collect();
    Policy::compile("test", &format!("version: 1\ninclude: [{}]", includes.join(", ")), &read).unwrap()
}

fn body(members: &[usize], user: bool) -> String {
    let members: Vec<&str> = members.iter().map(|member| MEMBERS[*member]).collect();
    format!("{{\"Image\":\"alpine:3\",{}\"HostConfig\":{{{}}}}}", if user { "\"User\":\"1000\"," } else { "" }, members.join(","))
}

fn create(body: &str) -> Request<'_> {
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap()
}

fn demands(body: &str) -> Demands {
    create(body).demands(&Facts::default())
}

fn permits(policy: &Policy, body: &str) -> bool {
    policy.decide(create(body), &demands(body), "me").is_ok()
}

fn some(of: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::subsequence((0..of).collect::<Vec<_>>(), 0..=of)
}

proptest! {
    #[test]
    fn more_grants_never_deny_more(fewer in some(GRANTS.len()), more in some(GRANTS.len()), members in some(MEMBERS.len()), user: bool) {
        let body = body(&members, user);
        let mut all = fewer.clone();
        all.extend(more.iter().filter(|grant| !fewer.contains(grant)));
        if permits(&policy(&fewer), &body) {
            prop_assert!(permits(&policy(&all), &body));
        }
    }

    #[test]
    fn more_demands_never_permit_more(grants in some(GRANTS.len()), members in some(MEMBERS.len())) {
        let policy = policy(&grants);
        let request = demands(&body(&members, false));
        let mut more = request.clone();
        more.push("more", engine::demand::Demand::Flag(Flag::WritableKernel));
        let text = body(&members, false);
        if policy.decide(create(&text), &more, "me").is_ok() {
            prop_assert!(policy.decide(create(&text), &request, "me").is_ok());
        }
    }

    #[test]
    fn order_of_grants_means_nothing(grants in some(GRANTS.len()), members in some(MEMBERS.len()), user: bool) {
        let mut reversed = grants.clone();
        reversed.reverse();
        let body = body(&members, user);
        prop_assert_eq!(permits(&policy(&grants), &body), permits(&policy(&reversed), &body));
    }

    #[test]
    fn what_is_judged_is_what_is_sent(members in some(MEMBERS.len()), user: bool) {
        let text = body(&members, user);
        let request = create(&text);
        let encoded = request.encode(Version::new(41).unwrap());
        let engine::Payload::Json(json) = encoded.payload else { panic!("no body") };
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        let again = Route::parse(encoded.method, &encoded.target).unwrap().decode(&headers, &json).unwrap();
        prop_assert_eq!(again, request);
    }

    #[test]
    fn filling_leaves_what_was_set(memory in 1_i64..1 << 40) {
        let text = format!("{{\"Image\":\"a\",\"HostConfig\":{{\"Memory\":{memory},\"CapDrop\":[\"CHOWN\"]}}}}");
        let mut request = create(&text);
        Policy::shipped("hardened").unwrap().fill(&mut request);
        let engine::Body::ContainerCreate(body) = &request.body else { panic!("no create") };
        let host = body.host_config.as_ref().unwrap();
        prop_assert_eq!(host.memory, Some(memory));
        prop_assert_eq!(host.readonly_rootfs, Some(true));
        prop_assert_eq!(host.cap_drop.as_ref().unwrap().len(), 2);
    }
}

/// Values that a demand is permitted with must not depend on anything but the policy and the demands.
#[test]
fn the_decision_is_a_function() {
    let text = body(&[3, 4, 5], true);
    let outcomes: BTreeMap<bool, ()> = (0..10).map(|_| (permits(&policy(&[0]), &text), ())).collect();
    assert_eq!(outcomes.len(), 1);
}

/// An empty filter of the client's must not stand before ours: the engine takes the first of two.
#[test]
fn lists_are_narrowed_whatever_filters_come_with_them() {
    let policy = Policy::shipped("ci").unwrap();
    for path in ["containers/json", "networks", "volumes", "events"] {
        for filters in [
            "",
            "filters=",
            "filters=null",
            "filters=%7B%7D",
            "filters=%7B%22label%22%3A%5B%5D%7D",
            "filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D",
        ] {
            let target = format!("/v1.41/{path}?{filters}");
            let request = Route::parse("GET", &target).unwrap().decode(&Headers::default(), b"").unwrap();
            let demands = request.demands(&Facts::default());
            let sent = policy.decide(request, &demands, "me").unwrap().encode(Version::new(41).unwrap()).target;
            assert_eq!(sent.matches("filters=").count(), 1, "{target} became {sent}");
            assert!(sent.contains("seawall.tenant%3Dme"), "{target} became {sent}");
        }
    }
}
