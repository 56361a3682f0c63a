//! Policy `hardened` on real engines: what usual clients ask for is created and starts, within the limits that the engine then has, and no
//! update lifts them.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails where something does not hold")]

use serde_json::Value;
use tests::cli::Docker;
use tests::engine::Engine;
use tests::image;
use tests::packages::Suite;
use tests::proxy::Seawall;

/// Images are imported, and have no digest.
const POLICY: &str = "version: 1\ninclude: [hardened]\nimages: [docker.io/library/cifixture]\nallow: [mutable-tag]\n";
const IMAGE: &str = "cifixture:1";
const LIMITS: [(&str, i64); 3] = [("Memory", 2 << 30), ("MemorySwap", 2 << 30), ("PidsLimit", 512)];

#[test]
fn limits_hold_on_docker_20_10() {
    limits_hold(Suite::Bookworm);
}

#[test]
fn limits_hold_on_docker_26_1() {
    limits_hold(Suite::Trixie);
}

fn limits_hold(suite: Suite) {
    let engine = Engine::start(suite);
    image::import(&engine, "cifixture", "1", "good");
    let proxy = Seawall::serve(&engine.address(), POLICY);
    let docker = Docker::at(&proxy.address());
    for (name, options) in [
        ("plain", &[][..]),
        ("memory", &["--memory", "2g"]),
        ("cpus", &["--cpus", "2"]),
        ("quota", &["--cpu-period", "100000", "--cpu-quota", "200000"]),
        ("tmpfs", &["--tmpfs", "/tmp", "--tmpfs", "/run:size=1048576"]),
        ("mount", &["--mount", "type=tmpfs,target=/tmp", "--mount", "type=volume,source=data,target=/data"]),
    ] {
        docker.ok(&run(name, options));
        let host = host_config(&engine, name);
        for (key, most) in LIMITS {
            let limit = host[key].as_i64();
            assert!(limit.is_some_and(|limit| 0 < limit && limit <= most), "{name}: {key} is {limit:?}");
        }
        let (period, quota) = (host["CpuPeriod"].as_i64().unwrap_or(0), host["CpuQuota"].as_i64().unwrap_or(0));
        let billionths = if quota == 0 { host["NanoCpus"].as_i64() } else { Some(quota * 1_000_000_000 / period) };
        assert!(billionths.is_some_and(|cpus| 0 < cpus && cpus <= 2_000_000_000), "{name}: {host}");
        assert!(tmpfs_sizes(&host).all(|size| size.is_some_and(|size| size <= 256 << 20)), "{name}: {host}");
    }
    let executable = docker.fails(&run("exec", &["--tmpfs", "/tmp", "--tmpfs", "/run:size=1048576,exec"]));
    assert!(executable.contains("tmpfs_options: [exec]"), "{executable}");
    // Nothing with which the engine would do more than it was asked at the create.
    for body in [r#"{"PidsLimit":0}"#, r#"{"PidsLimit":-1}"#, r#"{"CpuPeriod":1000}"#, r#"{"CpuQuota":400000}"#, r#"{"MemorySwap":-1}"#] {
        let (before, answer) = (host_config(&engine, "quota"), proxy_post(&proxy, "/v1.41/containers/quota/update", body));
        assert_eq!(answer, 403, "{body}");
        assert_eq!(host_config(&engine, "quota"), before, "{body}");
    }
    docker.ok(&["update", "--pids-limit", "100", "--memory", "1g", "--memory-swap", "1g", "quota"]);
    assert_eq!(host_config(&engine, "quota")["PidsLimit"], 100);
    // Below API 1.40 the engine makes the IPC namespace joinable where nothing is said.
    let old = r#"{"Image":"cifixture:1","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#;
    assert_eq!(proxy_post(&proxy, "/v1.39/containers/create?name=old", old), 201);
    assert_eq!(proxy_post(&proxy, "/v1.39/containers/old/start", ""), 204);
    assert_eq!(host_config(&engine, "old")["IpcMode"], "private");
    // Its output comes through without `--detach`.
    let loud = docker.ok(&["run", "--rm", "--network", "none", IMAGE, "echo", "heard"]);
    assert_eq!(loud.trim(), "heard");
    // Own containers and networks are put together and taken apart; a port that the engine chooses is on loopback.
    docker.ok(&["network", "create", "inner"]);
    docker.ok(&["run", "--detach", "--network", "inner", "--publish", "127.0.0.1::80", "--name", "inside", IMAGE, "sleep", "1000"]);
    docker.ok(&["network", "disconnect", "inner", "inside"]);
    docker.ok(&["network", "connect", "inner", "inside"]);
    // Not the default network: said so, and no image is pulled for it.
    let refused = docker.fails(&["run", "--detach", IMAGE, "true"]);
    assert!(refused.contains("networks: [bridge]") && !refused.contains("Unable to find image"), "{refused}");
}

/// A container that sleeps, without a network: the default one is not granted.
fn run<'a>(name: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--detach", "--network", "none", "--name", name], options, &[IMAGE, "sleep", "1000"]].concat()
}

fn host_config(engine: &Engine, name: &str) -> Value {
    engine.json(&format!("/containers/{name}/json")).expect("the container is there")["HostConfig"].clone()
}

/// The bytes of each in-memory filesystem; nothing: it has no size.
fn tmpfs_sizes(host: &Value) -> impl Iterator<Item = Option<i64>> {
    let lines = host["Tmpfs"].as_object().into_iter().flat_map(|map| map.values());
    let of_lines = lines.map(|line| line.as_str()?.split(',').find_map(|option| option.strip_prefix("size="))?.parse().ok());
    let mounts = host["Mounts"].as_array().into_iter().flatten().filter(|mount| mount["Type"] == "tmpfs");
    of_lines.chain(mounts.map(|mount| mount["TmpfsOptions"]["SizeBytes"].as_i64()))
}

fn proxy_post(proxy: &Seawall, target: &str, body: &str) -> u16 {
    let json: Option<Value> = (!body.is_empty()).then(|| serde_json::from_str(body).expect("JSON"));
    proxy.call("POST", target, json.as_ref()).status
}
