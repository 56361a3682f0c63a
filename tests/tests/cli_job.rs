//! The stock docker CLI and docker-py run a whole job: straight on the engine, so that the job itself is known to be right, then
//! through seawall over its unix socket and over mTLS.
#![expect(clippy::expect_used, reason = "a test fails where something does not hold")]

use serde_json::Value;
use tests::cli::Docker;
use tests::engine::Engine;
use tests::image;
use tests::job;
use tests::packages::Suite;
use tests::pki::{Pki, free_port};
use tests::proxy::Seawall;
use tests::python;
use tests::registry::{ADDRESS, Registry};

const POLICY: &str = "version: 1\ninclude: [ci]\nimages:\n  - docker.io/library/cifixture\n  - \"127.0.0.1:5000/**\"\n";

#[test]
fn job_runs_straight_on_docker_20_10() {
    straight(Suite::Bookworm);
}

#[test]
fn job_runs_straight_on_docker_26_1() {
    straight(Suite::Trixie);
}

#[test]
fn job_runs_over_the_unix_socket_on_docker_20_10() {
    over_unix(Suite::Bookworm);
}

#[test]
fn job_runs_over_the_unix_socket_on_docker_26_1() {
    over_unix(Suite::Trixie);
}

#[test]
fn job_runs_over_mtls_on_docker_20_10() {
    over_tls(Suite::Bookworm);
}

#[test]
fn job_runs_over_mtls_on_docker_26_1() {
    over_tls(Suite::Trixie);
}

#[test]
fn cli_of_docker_20_10_runs_the_same_job() {
    let (engine, registry) = ready(Suite::Bookworm);
    let proxy = Seawall::serve(&engine.address(), POLICY);
    let published = format!("{ADDRESS}/team/app:1");
    job::run(&Docker::at(&engine.address()).of_20_10(), &published, "straight");
    job::run(&Docker::at(&proxy.address()).of_20_10(), &published, "older");
    drop(registry);
}

fn straight(suite: Suite) {
    let (engine, registry) = ready(suite);
    run_both(&Docker::at(&engine.address()), "straight");
    drop(registry);
}

fn over_unix(suite: Suite) {
    let (engine, registry) = ready(suite);
    let proxy = Seawall::serve(&engine.address(), POLICY);
    run_both(&Docker::at(&proxy.address()), "unix");
    every_record_is_whole(&proxy);
    drop(registry);
}

fn over_tls(suite: Suite) {
    let (engine, registry) = ready(suite);
    let (pki, port) = (Pki::new(), free_port());
    let certificates = pki.issue("ci", &[]);
    let policy = pki.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).expect("the policy is written");
    let proxy = Seawall::configured(&format!(
        "engine: {}\nlisten:\n  - unix://${{HOME}}/docker.sock\n{}clients:\n  - name: ci\n    match: {{ uri: \"seawall:client/*\" }}\n    policy: {}\n    tenant: ci\n",
        engine.address(),
        pki.listener(port),
        policy.display(),
    ));
    run_both(&Docker::over_tls(&format!("tcp://127.0.0.1:{port}"), &certificates), "mtls");
    every_record_is_whole(&proxy);
    drop(registry);
}

/// An engine with the job's image, and a registry with another.
fn ready(suite: Suite) -> (Engine, Registry) {
    let engine = Engine::start(suite);
    image::import(&engine, "cifixture", "1", "good");
    let other = image::import(&engine, "other", "1", "other");
    let registry = Registry::start(&engine);
    registry.publish(&engine, &other, "team/app", "1");
    (engine, registry)
}

fn run_both(docker: &Docker, mark: &str) {
    let published = format!("{ADDRESS}/team/app:1");
    job::run(docker, &published, mark);
    let outcome = python::run(docker, include_str!("../support/job.py"), &[mark, &published]);
    assert!(outcome.code == 0 && outcome.stdout == "done\n", "docker-py: {}{}", outcome.stdout, outcome.stderr);
}

/// Records say who and how it was decided; what was permitted also for whom, what and by which policy.
fn every_record_is_whole(proxy: &Seawall) {
    let records = proxy.audit();
    let permitted = |record: &&Value| record["decision"] == "permitted";
    let many = records.iter().filter(permitted).count();
    assert!(many > 100, "a whole job has many records: {many}");
    for record in &records {
        let keys = ["identity", "decision", "tenant", "operation", "policy"];
        let wanted = if permitted(&record) { keys.len() } else { 2 };
        for key in keys.iter().take(wanted) {
            let there = record.get(key).is_some();
            assert!(there, "an audit record has no `{key}`: {record}");
        }
    }
}
