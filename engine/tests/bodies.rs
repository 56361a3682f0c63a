//! Every body, at every level: what is not declared is refused, what is declared survives.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::too_many_lines,
    reason = "a test that cannot go on says so"
)]
#![recursion_limit = "512"]

use engine::{Body, Headers, Payload, Request, Route, Version};
use serde_json::{Value, json};

/// A request with everything in it that its body can hold.
fn fullest() -> Vec<(&'static str, &'static str, Value)> {
    let endpoint = json!({
        "IPAMConfig": { "IPv4Address": "10.0.0.2", "IPv6Address": "fd00::2", "LinkLocalIPs": ["169.254.1.1"] }, "Links": ["a:b"], "Aliases": ["c"],
        "MacAddress": "02:42:ac:11:00:02", "DriverOpts": { "k": "v" }, "GwPriority": 1, "NetworkID": "n", "EndpointID": "e", "Gateway": "10.0.0.1",
        "IPAddress": "10.0.0.2", "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": ["x"],
    });
    let throttle = json!([{ "Path": "/dev/sda", "Rate": 1 }]);
    let create = json!({
        "Hostname": "h", "Domainname": "d", "User": "1:1", "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "ExposedPorts": { "80/tcp": {} },
        "Tty": true, "OpenStdin": true, "StdinOnce": true, "Env": ["A=b"], "Cmd": ["x"],
        "Healthcheck": { "Test": ["CMD", "x"], "Interval": 1, "Timeout": 1, "Retries": 1, "StartPeriod": 1, "StartInterval": 1 },
        "ArgsEscaped": true, "Image": "alpine", "Volumes": { "/v": {} }, "WorkingDir": "/w", "Entrypoint": ["e"], "NetworkDisabled": true, "MacAddress": "m",
        "OnBuild": ["o"], "Labels": { "l": "v" }, "StopSignal": "TERM", "StopTimeout": 1, "Shell": ["sh"],
        "HostConfig": {
            "Binds": ["/a:/b:ro"], "ContainerIDFile": "f", "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } }, "NetworkMode": "bridge",
            "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "80" }, null], "81/tcp": null }, "RestartPolicy": { "Name": "no", "MaximumRetryCount": 1 },
            "AutoRemove": true, "VolumeDriver": "local", "VolumesFrom": ["c:ro"], "ConsoleSize": [1, 2], "Annotations": { "a": "b" }, "CapAdd": ["X"], "CapDrop": ["Y"],
            "Capabilities": ["Z"], "CgroupnsMode": "private", "Dns": ["1.1.1.1"], "DnsOptions": ["o"], "DnsSearch": ["s"], "ExtraHosts": ["h:1.1.1.1"],
            "GroupAdd": ["1"], "IpcMode": "private", "Cgroup": "", "Links": ["a:b"], "OomScoreAdj": 1, "PidMode": "host", "Privileged": true,
            "PublishAllPorts": true, "ReadonlyRootfs": true, "SecurityOpt": ["no-new-privileges=true"], "StorageOpt": { "size": "1" }, "Tmpfs": { "/t": "" },
            "UTSMode": "host", "UsernsMode": "host", "ShmSize": 1, "Sysctls": { "a": "b" }, "Runtime": "runc", "Isolation": "default",
            "Mounts": [{
                "Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true, "Consistency": "default",
                "BindOptions": { "Propagation": "private", "NonRecursive": true, "CreateMountpoint": true, "ReadOnlyNonRecursive": true, "ReadOnlyForceRecursive": true },
                "VolumeOptions": { "NoCopy": true, "Labels": { "l": "v" }, "DriverConfig": { "Name": "n", "Options": { "o": "v" } }, "Subpath": "s" },
                "TmpfsOptions": { "SizeBytes": 1, "Mode": 1, "Options": [["a", "b"]] }, "ImageOptions": { "Subpath": "s" }, "ClusterOptions": {},
            }],
            "MaskedPaths": [], "ReadonlyPaths": [], "Init": true, "InitPath": "i", "CpuShares": 1, "Memory": 1, "NanoCpus": 1, "CgroupParent": "p", "BlkioWeight": 1,
            "BlkioWeightDevice": [{ "Path": "/dev/sda", "Weight": 1 }], "BlkioDeviceReadBps": throttle, "BlkioDeviceWriteBps": throttle,
            "BlkioDeviceReadIOps": throttle, "BlkioDeviceWriteIOps": throttle, "CpuPeriod": 1, "CpuQuota": 1, "CpuRealtimePeriod": 1, "CpuRealtimeRuntime": 1,
            "CpusetCpus": "0", "CpusetMems": "0", "Devices": [{ "PathOnHost": "/d", "PathInContainer": "/d", "CgroupPermissions": "rwm" }],
            "DeviceCgroupRules": ["c 1:1 rwm"], "DeviceRequests": [{ "Driver": "d", "Count": 1, "DeviceIDs": ["0"], "Capabilities": [["gpu"]], "Options": { "o": "v" } }],
            "DiskQuota": 1, "KernelMemory": 1, "KernelMemoryTCP": 1, "MemoryReservation": 1, "MemorySwap": 1, "MemorySwappiness": 1, "OomKillDisable": true,
            "PidsLimit": 1, "Ulimits": [{ "Name": "nofile", "Soft": 1, "Hard": 1 }], "CpuCount": 1, "CpuPercent": 1, "IOMaximumIOps": 1, "IOMaximumBandwidth": 1,
        },
        "NetworkingConfig": { "EndpointsConfig": { "n": endpoint } },
    });
    let mut update = create["HostConfig"].clone();
    let kept = [
        "RestartPolicy",
        "CpuShares",
        "Memory",
        "NanoCpus",
        "CgroupParent",
        "BlkioWeight",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpusetCpus",
        "CpusetMems",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "DiskQuota",
        "KernelMemory",
        "KernelMemoryTCP",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "OomKillDisable",
        "PidsLimit",
        "Ulimits",
        "CpuCount",
        "CpuPercent",
        "IOMaximumIOps",
        "IOMaximumBandwidth",
    ];
    update.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
    vec![
        ("POST", "/v1.41/containers/create", create),
        ("POST", "/v1.41/containers/c/update", update),
        (
            "POST",
            "/v1.41/containers/c/exec",
            json!({
                "User": "u", "Privileged": true, "Tty": true, "ConsoleSize": [1, 2], "AttachStdin": true, "AttachStderr": true, "AttachStdout": true,
                "DetachKeys": "k", "Env": ["A=b"], "WorkingDir": "/w", "Cmd": ["x"],
            }),
        ),
        ("POST", "/v1.41/exec/e/start", json!({ "Detach": true, "Tty": true, "ConsoleSize": [1, 2] })),
        (
            "POST",
            "/v1.41/networks/create",
            json!({
                "Name": "n", "CheckDuplicate": true, "Driver": "bridge", "Scope": "local", "Internal": true, "Attachable": true, "Ingress": true, "ConfigOnly": true,
                "ConfigFrom": { "Network": "c" }, "EnableIPv4": true, "EnableIPv6": true, "Options": { "o": "v" }, "Labels": { "l": "v" },
                "IPAM": { "Driver": "default", "Options": { "o": "v" }, "Config": [{ "Subnet": "10.0.0.0/8", "IPRange": "10.0.0.0/16", "Gateway": "10.0.0.1", "AuxiliaryAddresses": { "a": "10.0.0.2" } }] },
            }),
        ),
        ("POST", "/v1.41/networks/n/connect", json!({ "Container": "c", "EndpointConfig": endpoint })),
        ("POST", "/v1.41/networks/n/disconnect", json!({ "Container": "c", "Force": true })),
        (
            "POST",
            "/v1.42/volumes/create",
            json!({ "Name": "v", "Driver": "local", "DriverOpts": { "o": "v" }, "Labels": { "l": "v" }, "ClusterVolumeSpec": {} }),
        ),
    ]
}

fn decode<'a>(method: &str, target: &'a str, body: &'a str) -> Result<Request<'a>, engine::DecodeError> {
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    Route::parse(method, target)?.decode(&headers, body.as_bytes())
}

/// Maps whose keys are the client's own: nothing in them is unknown.
const FREE: &[&str] = &[
    "Labels",
    "Volumes",
    "ExposedPorts",
    "Annotations",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Options",
    "DriverOpts",
    "AuxiliaryAddresses",
    "Config",
    "PortBindings",
    "EndpointsConfig",
];

/// Calls a function with every object of a value whose keys are declared, and a copy of the whole in which that object is changed.
fn each_object(value: &Value, change: &dyn Fn(&mut serde_json::Map<String, Value>)) -> Vec<(String, String)> {
    fn walk(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
        match value {
            Value::Object(map) => {
                let free = path.last().is_some_and(|name| FREE.contains(&name.as_str()))
                    && !(path.last().is_some_and(|name| name == "Config") && map.contains_key("Subnet"));
                if !free {
                    found.push(path.to_vec());
                }
                for (key, inner) in map {
                    walk(inner, &[path, std::slice::from_ref(key)].concat(), found);
                }
            }
            Value::Array(list) => {
                for (at, inner) in list.iter().enumerate() {
                    walk(inner, &[path, &[at.to_string()]].concat(), found);
                }
            }
            _ => {}
        }
    }
    let mut paths = Vec::new();
    walk(value, &[], &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let mut copy = value.clone();
            let pointer = path.iter().map(|part| format!("/{}", part.replace('/', "~1"))).collect::<String>();
            change(copy.pointer_mut(&pointer).unwrap().as_object_mut().unwrap());
            (pointer, copy.to_string())
        })
        .collect()
}

#[test]
fn what_is_declared_survives_decoding_and_encoding() {
    for (method, target, value) in fullest() {
        let text = value.to_string();
        let request = decode(method, target, &text).unwrap_or_else(|error| panic!("{target}: {error}"));
        let Payload::Json(json) = request.encode(Version::new(41).unwrap()).payload else { panic!("{target}: no body") };
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), value, "{target}");
    }
}

#[test]
fn every_field_is_in_the_fullest_example() {
    let fullest = fullest();
    let create = &fullest[0].2;
    for name in engine::types::container::ContainerCreate::FIELDS {
        assert!(create.get(name).is_some(), "{name}");
    }
    for name in engine::types::container::HostConfig::FIELDS {
        assert!(create["HostConfig"].get(name).is_some(), "HostConfig.{name}");
    }
    for name in engine::types::container::ContainerUpdate::FIELDS {
        assert!(fullest[1].2.get(name).is_some(), "update {name}");
    }
}

#[test]
fn an_unknown_key_at_any_level_is_refused_with_its_name() {
    for (method, target, value) in fullest() {
        for (place, text) in each_object(&value, &|map| drop(map.insert("Unheard".to_owned(), json!(1)))) {
            let error = decode(method, target, &text).expect_err(&format!("{target} {place}")).to_string();
            assert!(error.contains("Unheard"), "{target} {place}: {error}");
        }
    }
}

/// docker-java writes what it knows and is not set as `null`: `PortSpecs`, `LxcConf`.
#[test]
fn an_unknown_key_that_says_nothing_is_left_out_unless_it_is_another_spelling() {
    for (method, target, value) in fullest() {
        let request = decode(method, target, &value.to_string()).unwrap().encode(Version::new(41).unwrap());
        for (place, text) in each_object(&value, &|map| drop(map.insert("Unheard".to_owned(), Value::Null))) {
            assert_eq!(decode(method, target, &text).unwrap().encode(Version::new(41).unwrap()), request, "{target} {place}");
        }
        let respell = |map: &mut serde_json::Map<String, Value>| {
            if let Some(key) = map.keys().next().cloned() {
                let _ = map.insert(key.to_uppercase().replace('S', "\u{17f}"), Value::Null);
            }
        };
        let written = value.to_string();
        for (place, text) in each_object(&value, &respell).into_iter().filter(|(_, text)| *text != written) {
            assert!(decode(method, target, &text).is_err(), "{target} {place} {text}");
        }
    }
}

#[test]
fn a_key_in_another_case_or_folded_is_refused() {
    for (method, target, value) in fullest() {
        let text = value.to_string();
        for key in keys(&value) {
            for other in [key.to_lowercase(), key.to_uppercase(), key.replace('s', "\u{17f}"), key.replace('k', "\u{212a}")] {
                if other != key {
                    let changed = text.replace(&format!("\"{key}\":"), &format!("\"{other}\":"));
                    assert!(decode(method, target, &changed).is_err(), "{target} {other}");
                }
            }
        }
    }
}

#[test]
fn a_duplicate_key_is_refused() {
    for (method, target, value) in fullest() {
        let text = value.to_string();
        for key in keys(&value) {
            let doubled = text.replacen(&format!("\"{key}\":"), &format!("\"{key}\":null,\"{key}\":"), 1);
            assert!(decode(method, target, &doubled).is_err(), "{target} {key}");
        }
    }
}

/// The declared keys of a value.
fn keys(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Value::Object(map) = value {
        found.extend(map.keys().cloned());
        if let Some(Value::Object(host)) = map.get("HostConfig") {
            found.extend(host.keys().cloned());
        }
    }
    found
}

#[test]
fn documents_are_one_json_value() {
    for target in ["/v1.41/volumes/create", "/v1.41/networks/create", "/v1.41/exec/e/start"] {
        assert!(
            decode("POST", target, r#"["x",null,null,null,null]"#).is_err() && decode("POST", target, "[]").is_err(),
            "{target}: a list of values"
        );
    }
    assert!(decode("POST", "/v1.41/containers/create", r#"{"HostConfig":[["/:/x"]]}"#).is_err());
    for body in [
        "",
        "null",
        "[]",
        "\"x\"",
        "{}{}",
        "{} x",
        "\u{feff}{}",
        "{\"Image\":\"a\",}",
        "{'Image':'a'}",
        "{\"Image\":\"\\ud800\"}",
        "{\"Memory\":1.0}",
        "{\"Privileged\":true}",
        "{\"HostConfig\":{\"Memory\":1e8}}",
        "{\"Cmd\":{}}",
        "{\"Cmd\":[\"ls\",{}]}",
        "{\"HostConfig\":{\"CapAdd\":\"ALL\"}}",
    ] {
        assert!(decode("POST", "/v1.41/containers/create", body).is_err(), "{body}");
    }
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert!(decode("POST", "/v1.41/containers/create", &format!("{{\"Env\":{deep}}}")).is_err());
    assert!(decode("POST", "/v1.41/containers/create", " \r\n\t{} \n").is_ok());
}

#[test]
fn an_exec_that_no_kernel_runs_is_refused() {
    let exec = |body: serde_json::Value| match decode("POST", "/v1.41/containers/c/exec", &body.to_string()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let (longest, long) = ("x".repeat((128 << 10) - 1), "x".repeat(128 << 10));
    assert_eq!(exec(json!({ "Cmd": ["sh", longest], "Env": ["A=b"] })), "");
    for (body, at) in [(json!({ "Cmd": ["sh", long] }), "Cmd[1]"), (json!({ "Env": ["A=b", "B=c", long] }), "Env[2]")] {
        assert!(exec(body).contains(at), "{at}");
    }
    assert!(exec(json!({ "Env": [longest, longest, longest] })).contains("more than 262144 bytes"));
}

#[test]
fn keys_that_clients_send_and_engines_ignore_are_dropped() {
    let request = decode("POST", "/v1.41/containers/c/exec", r#"{"Cmd":["id"],"Detach":false,"Container":"c"}"#).unwrap();
    assert_eq!(request.encode(Version::new(41).unwrap()).payload, Payload::Json(br#"{"Cmd":["id"]}"#.to_vec()));
    assert!(decode("POST", "/v1.41/images/a/tag?tag=t&repo=r&force=0", "").is_ok(), "docker-py's tag");
    let request = decode("POST", "/v1.41/containers/create", r#"{"Cmd":"ls -l","ExposedPorts":{"80/tcp":null},"Volumes":{"/v":null}}"#).unwrap();
    let written = br#"{"ExposedPorts":{"80/tcp":{}},"Cmd":["ls -l"],"Volumes":{"/v":{}}}"#;
    assert_eq!(request.encode(Version::new(41).unwrap()).payload, Payload::Json(written.to_vec()), "what Go reads in other forms");
    let request = decode("POST", "/v1.41/containers/create", r#"{"Image":"a","NetworkingConfig":{"net":null}}"#).unwrap();
    assert!(matches!(&request.body, Body::ContainerCreate(body) if body.networking_config.as_ref().unwrap().endpoints_config.is_none()));
    assert!(decode("POST", "/v1.41/containers/create", r#"{"Image":"a","NetworkingConfig":{"net":{}}}"#).is_err());
    assert!(decode("POST", "/v1.41/containers/create?name=x&Image=a&HostConfig=%7B%7D", "{}").is_ok());
    assert!(decode("POST", "/v1.41/containers/create?nme=x", "{}").is_err());
}

#[test]
fn queries_are_strict() {
    for target in [
        "/v1.41/containers/json?all=1&all=0",
        "/v1.41/containers/json?All=1",
        "/v1.41/containers/json?all=maybe",
        "/v1.41/containers/json?a%6cl=1",
        "/v1.41/containers/json?all=1;limit=2",
        "/v1.41/containers/json?all=%zz",
        "/v1.41/containers/json?limit=x",
        "/v1.41/containers/json?filters=%7Bbad",
        "/v1.41/containers/json?filters=%7B%22label%22%3A%5B%22a%22%5D%2C%22label%22%3A%5B%22b%22%5D%7D",
        "/v1.41/containers/json?filters=[]",
    ] {
        assert!(decode("GET", target, "").is_err(), "{target}");
    }
    let legacy = decode("GET", "/v1.41/containers/json?all=True&filters=%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D&trunc_cmd=0", "").unwrap();
    assert_eq!(legacy.encode(Version::new(41).unwrap()).target, "/v1.41/containers/json?all=1&filters=%7B%22label%22:%5B%22a%3Db%22%5D%7D");
}
