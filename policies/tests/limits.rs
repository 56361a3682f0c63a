//! Limits: what a create or an update asks for in every way in which it can be asked for, against `limits` of a policy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use engine::demand::{Amount, Demand, Flag, Quantity};
use engine::facts::Facts;
use engine::types::container::HostConfig;
use engine::{Body, Headers, Request, Route};
use policies::Policy;

const LIMITED: &str = "version: 1\nlimits: { memory: 2g, swap: 2g, pids: 512, cpus: 2, shm: 64m, tmpfs: 256m, ports: 4, stop_timeout: 60 }";

fn decode<'a>(target: &'a str, body: &'a str) -> Request<'a> {
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    Route::parse("POST", target).unwrap().decode(&headers, body.as_bytes()).unwrap()
}

/// The quantities that are demanded and not granted.
fn refused(target: &str, body: &str) -> Vec<Quantity> {
    let read = |_: &str, name: &str| Err(format!("no file {name}"));
    let policy = Policy::compile("test", LIMITED, &read).unwrap();
    let demands = decode(target, body).demands(&Facts::default());
    let quantity = |demand: &Demand| if let Demand::Quantity(quantity, _) = demand { Some(*quantity) } else { None };
    let mut refused: Vec<Quantity> = demands.iter().map(|d| &d.demand).filter(|demand| !policy.covers(demand)).filter_map(quantity).collect();
    refused.dedup();
    refused
}

#[test]
fn an_update_lifts_no_limit() {
    use Quantity::{Cpus, Memory, Pids, Swap};
    for (body, expected) in [
        ("{}", None),
        // Zero: stays as it is, but for the processes, which are then unlimited (seen on 20.10 and 26.1).
        (r#"{"Memory":0,"MemorySwap":0,"NanoCpus":0,"CpuPeriod":0,"CpuQuota":0}"#, None),
        (r#"{"PidsLimit":0}"#, Some(Pids)),
        (r#"{"PidsLimit":-1}"#, Some(Pids)),
        (r#"{"PidsLimit":513}"#, Some(Pids)),
        (r#"{"PidsLimit":512}"#, None),
        (r#"{"PidsLimit":null}"#, None),
        (r#"{"Memory":-1}"#, Some(Memory)),
        (r#"{"Memory":1073741824}"#, None),
        (r#"{"MemorySwap":-1}"#, Some(Swap)),
        (r#"{"NanoCpus":-1}"#, Some(Cpus)),
        (r#"{"NanoCpus":2000000000}"#, None),
        (r#"{"NanoCpus":2000000001}"#, Some(Cpus)),
        (r#"{"NanoCpus":1000000000,"CpuQuota":-1}"#, Some(Cpus)),
        // One of two beside what the container has already: a period of 1 ms beside a quota of 100 ms is 100 CPUs.
        (r#"{"CpuPeriod":1000}"#, Some(Cpus)),
        (r#"{"CpuQuota":100000}"#, Some(Cpus)),
        (r#"{"CpuQuota":-1}"#, Some(Cpus)),
        (r#"{"CpuPeriod":100000,"CpuQuota":200000}"#, None),
        (r#"{"CpuPeriod":1000,"CpuQuota":100000}"#, Some(Cpus)),
    ] {
        assert_eq!(refused("/v1.41/containers/c/update", body), Vec::from_iter(expected), "{body}");
    }
}

#[test]
fn a_create_asks_for_no_more_than_its_limits() {
    use Quantity::{Cpus, Memory, Pids, Swap, Tmpfs};
    let most = [("Memory", "1073741824"), ("NanoCpus", "2000000000"), ("PidsLimit", "512")];
    // Members beside, and in the place of, those that keep to the limits.
    for (members, expected) in [
        ("", None),
        (r#""Memory":0"#, Some(Memory)),
        (r#""PidsLimit":0"#, Some(Pids)),
        (r#""NanoCpus":0"#, Some(Cpus)),
        (r#""NanoCpus":0,"CpuQuota":200000"#, None),
        (r#""NanoCpus":0,"CpuPeriod":1000,"CpuQuota":200000"#, Some(Cpus)),
        (r#""CpuQuota":-1"#, Some(Cpus)),
        (r#""CpuPeriod":1000"#, Some(Cpus)),
        // The engine allows twice the memory where no swap is named.
        (r#""Memory":2147483648"#, Some(Swap)),
        (r#""Memory":2147483648,"MemorySwap":2147483648"#, None),
        (r#""MemorySwap":-1"#, Some(Swap)),
        (r#""Tmpfs":{"/x":"size=10g"}"#, Some(Tmpfs)),
        (r#""Tmpfs":{"/x":""}"#, Some(Tmpfs)),
        (r#""Tmpfs":{"/x":"size=0"}"#, Some(Tmpfs)),
        (r#""Tmpfs":{"/x":"size=50%"}"#, Some(Tmpfs)),
        (r#""Tmpfs":{"/x":"nr_blocks=1"}"#, Some(Tmpfs)),
        (r#""Tmpfs":{"/x":"size=1m,size=10G"}"#, Some(Tmpfs)),
        (r#""Tmpfs":{"/x":"ro,size=256m,mode=1777"}"#, None),
        (r#""Mounts":[{"Type":"tmpfs","Target":"/x"}]"#, Some(Tmpfs)),
        (r#""Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":1024}}]"#, None),
        (r#""Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":1024,"Options":[["size","10g"]]}}]"#, Some(Tmpfs)),
        (r#""Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[["size","1m"]]}}]"#, None),
    ] {
        let mut all: Vec<String> =
            most.iter().filter(|(key, _)| !members.contains(&format!("\"{key}\""))).map(|(key, value)| format!("\"{key}\":{value}")).collect();
        all.extend((!members.is_empty()).then(|| members.to_owned()));
        let body = format!("{{\"Image\":\"a\",\"HostConfig\":{{{}}}}}", all.join(","));
        assert_eq!(refused("/v1.41/containers/create", &body), Vec::from_iter(expected), "{body}");
    }
    let odd = decode("/v1.41/containers/create", r#"{"Image":"a","HostConfig":{"Tmpfs":{"/x":"size=0x10"}}}"#).demands(&Facts::default());
    assert!(odd.iter().any(|demanded| matches!(demanded.demand, Demand::NotUnderstood(_))), "{odd:?}");
}

/// The engine's own end waits for it.
#[test]
fn a_container_stops_in_time() {
    for (seconds, expected) in [("null", false), ("-1", true), ("0", false), ("60", false), ("61", true), ("9000000000", true)] {
        let body = format!("{{\"Image\":\"a\",\"StopTimeout\":{seconds}}}");
        assert_eq!(refused("/v1.41/containers/create", &body).contains(&Quantity::StopTimeout), expected, "{body}");
        for verb in ["stop", "restart"] {
            let target = if seconds == "null" { format!("/v1.41/containers/a/{verb}") } else { format!("/v1.41/containers/a/{verb}?t={seconds}") };
            assert_eq!(refused(&target, "").contains(&Quantity::StopTimeout), expected, "{target}");
        }
    }
}

/// Ulimits with which a process takes more of the host than its container's limits let it.
#[test]
fn a_real_time_priority_is_demanded() {
    let realtime = |target: &str, body: &str, content: &'static str| {
        let headers = Headers { content_type: Some(content), ..Headers::default() };
        let demands = Route::parse("POST", target).unwrap().decode(&headers, body.as_bytes()).unwrap().demands(&Facts::default());
        demands.iter().any(|demanded| demanded.demand == Demand::Flag(Flag::RealtimeCpu))
    };
    for (name, soft, hard, expected) in [
        ("rtprio", 0, 0, false),
        ("rtprio", 0, 99, true),
        ("rtprio", -1, -1, true),
        ("nofile", 1_048_576, 1_048_576, false),
        ("memlock", -1, -1, false),
    ] {
        let ulimits = format!("[{{\"Name\":\"{name}\",\"Soft\":{soft},\"Hard\":{hard}}}]");
        let create = format!("{{\"Image\":\"a\",\"HostConfig\":{{\"Ulimits\":{ulimits}}}}}");
        assert_eq!(realtime("/v1.41/containers/create", &create, "application/json"), expected, "{ulimits}");
        let build = format!("/v1.41/build?ulimits={}", ulimits.replace('{', "%7B").replace('}', "%7D").replace('"', "%22"));
        assert_eq!(realtime(&build, "", "application/x-tar"), expected, "{ulimits} of a build");
    }
}

/// Each is a process of the engine, and two where the host has IPv6.
#[test]
fn published_ports_are_counted() {
    for (body, most) in [
        (r#""HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"80"}],"53":null,"53/udp":[{"HostIp":"127.0.0.1"},{"HostIp":"127.0.0.2"}]}}"#, 4),
        // One of a range of the host's, and each of a range of its own.
        (r#""HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8000-8999"}]}}"#, 1),
        (r#""HostConfig":{"PortBindings":{"1-65535/tcp":[{},{}]}}"#, 131_070),
        (r#""ExposedPorts":{"1-65535/udp":{}}"#, 0),
        (r#""ExposedPorts":{"1-65535/udp":{},"80":{}},"HostConfig":{"PublishAllPorts":true}"#, 65_536),
        // What has a binding is published there.
        (r#""ExposedPorts":{"80":{},"81/tcp":{}},"HostConfig":{"PublishAllPorts":true,"PortBindings":{"80/tcp":[{}]}}"#, 2),
    ] {
        let body = format!("{{\"Image\":\"a\",{body}}}");
        let target = "/v1.41/containers/create";
        let asked = decode(target, &body).demands(&Facts::default());
        let counted = asked.iter().find_map(|d| if let Demand::Quantity(Quantity::Ports, Amount(amount)) = &d.demand { Some(*amount) } else { None });
        assert_eq!(counted, Some(Some(most)).filter(|_| most > 0), "{body}");
        assert_eq!(refused(target, &body).contains(&Quantity::Ports), most > 4, "{body}");
    }
}

/// The steps of a build are containers too, as the builder makes them.
#[test]
fn a_build_demands_what_its_steps_are() {
    let policy = |text: &str| Policy::compile("test", text, &|_, name: &str| Err(format!("no file {name}"))).unwrap();
    let told = |policy: &Policy, query: &str| {
        let target = format!("/v1.41/build{query}");
        let headers = Headers { content_type: Some("application/x-tar"), ..Headers::default() };
        let mut request = Route::parse("POST", &target).unwrap().decode(&headers, b"").unwrap();
        policy.fill(&mut request);
        let demands = request.demands(&Facts::default());
        let uncovered = demands.iter().filter(|demanded| !policy.covers(&demanded.demand)).map(|demanded| demanded.demand.to_string());
        (uncovered.collect::<Vec<_>>().join(", "), request.encode(engine::Version::new(41).unwrap()).target)
    };
    let (uncovered, _) = told(&policy("version: 1\ninclude: [hardened]\noperations: { image: { ImageBuild: all } }"), "");
    for needed in ["root-user", "new-privileges", "writable-rootfs", "capability `NET_RAW`", "unlimited pids"] {
        assert!(uncovered.contains(needed), "{needed}: {uncovered}");
    }
    assert!(!uncovered.contains("memory") && !uncovered.contains("cpus") && !uncovered.contains("swap"), "filled in: {uncovered}");
    let limited = "operations: { image: { ImageBuild: all } }\nnetworks: [bridge]\ncapabilities: [default]\nallow: [root-user, new-privileges, writable-rootfs]\n\
                   limits: { memory: 1g, swap: 2g, cpus: 2, pids: unlimited, shm: 64m }";
    let limited = policy(&format!("version: 1\n{limited}"));
    assert_eq!(told(&limited, "").0, "unlimited memory, unlimited cpus");
    let (uncovered, sent) = told(&limited, "?memory=1073741824&cpuquota=200000&rm=0");
    assert_eq!(uncovered, "");
    assert!(sent.contains("?rm=1&") && sent.contains("forcerm=1") && !sent.contains("rm=0"), "{sent}");
    assert_eq!(told(&limited, "?memory=1073741824&memswap=-1&cpuquota=200000&shmsize=1073741824").0, "unlimited swap, 1073741824 of shm");
    assert_eq!(told(&limited, "?memory=1073741824&cpuquota=200000&cpuperiod=1000").0, "200000000000 of cpus");
}

/// What `hardened` fills in makes a request keep to its limits, so that what it creates can be started.
#[test]
fn hardened_fills_in_what_the_engine_would_make_too_large() {
    let filled = |version: &str, host: &str| -> HostConfig<'static> {
        let (target, body) = (format!("/v1.{version}/containers/create"), format!("{{\"Image\":\"a\",\"HostConfig\":{host}}}"));
        let mut request = decode(&target, &body);
        Policy::shipped("hardened").unwrap().fill(&mut request);
        let Body::ContainerCreate(create) = request.body else { panic!("no create") };
        serde_json::from_str(Box::leak(serde_json::to_string(&create.host_config).unwrap().into_boxed_str())).unwrap()
    };
    assert_eq!(filled("41", r#"{"Memory":2147483648}"#).memory_swap, Some(2 << 30));
    assert_eq!(filled("41", r#"{"Memory":1048576}"#).memory_swap, None, "the engine's own is small enough");
    assert_eq!(filled("41", r#"{"Memory":2147483648,"MemorySwap":-1}"#).memory_swap, Some(-1), "what is asked for is judged");
    let tmpfs = |host: &str| filled("41", host).tmpfs.unwrap().values().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(tmpfs(r#"{"Tmpfs":{"/a":"","/b":"ro","/c":"size=1m"}}"#), ["size=67108864", "ro,size=67108864", "size=1m"]);
    let mounts = filled("41", r#"{"Mounts":[{"Type":"tmpfs","Target":"/x"}]}"#).mounts.unwrap();
    assert_eq!(mounts.first().unwrap().tmpfs_options.as_ref().unwrap().size_bytes, Some(64 << 20));
    // Below API 1.40 the engine would make it joinable.
    assert_eq!(filled("39", "{}").ipc_mode.unwrap().to_string(), "private");
    assert!(filled("41", "{}").ipc_mode.is_none());
    // On cgroup v1 the engine would give it the host's.
    for (version, host, written) in [
        ("40", "{}", "private"),
        ("41", r#"{"CgroupnsMode":""}"#, "private"),
        ("44", r#"{"CgroupnsMode":"host"}"#, "host"),
        ("44", r#"{"Privileged":true}"#, ""),
    ] {
        assert_eq!(filled(version, host).cgroupns_mode.map(|mode| mode.to_string()).unwrap_or_default(), written, "{version} {host}");
    }
}
