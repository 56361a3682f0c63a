//! What an image brings with it: its containers and builds demand that too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::collections::{BTreeMap, BTreeSet};

use engine::demand::{Amount, Demand, Demands, Flag, Quantity};
use engine::dockerfile::Dockerfile;
use engine::facts::{Brings, Facts, Object, ObjectKind, Owner, Reference};
use engine::stored::{Defaults, Stored};
use engine::{Headers, OWNER_LABEL, Payload, Route, Version};
use serde_json::Value;

fn facts(volumes: &[&str], working_dir: &str) -> Facts {
    let volumes = volumes.iter().map(|path| (*path).to_owned()).collect();
    brought(Brings { volumes, working_dir: working_dir.to_owned(), ..Brings::default() })
}

fn brought(brings: Brings) -> Facts {
    let mut facts = Facts::default();
    let object = Object { brings, ..Object::named(ObjectKind::Image, "base", Owner::Own) };
    facts.insert(Reference { kind: ObjectKind::Image, name: "base".to_owned() }, Some(object.into()));
    facts
}

/// Where it is demanded that a system path is mounted over or worked in, and what is demanded of `/dev/shm`.
fn system(demands: &Demands) -> Vec<(String, &'static str)> {
    let known = [
        (Demand::Flag(Flag::SystemMount), "mount"),
        (Demand::Flag(Flag::SystemWorkingDir), "working-dir"),
        (Demand::Quantity(Quantity::Shm, Amount(None)), "unlimited shm"),
    ];
    let name = |demand: &Demand| {
        let limited = matches!(demand, Demand::Quantity(Quantity::Shm, Amount(Some(_))));
        if limited { Some("shm") } else { known.iter().find(|(of, _)| of == demand).map(|(_, name)| *name) }
    };
    demands.iter().filter_map(|demanded| Some((demanded.at.to_string(), name(&demanded.demand)?))).collect()
}

fn created(body: &str, facts: &Facts) -> Vec<(String, &'static str)> {
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    system(&Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap().demands(facts))
}

#[test]
fn a_container_has_the_volumes_and_the_working_directory_of_its_image() {
    let create = r#"{"Image":"base"}"#;
    for (volumes, working_dir, expected) in [
        (&["/data", "data"][..], "/srv", None),
        (&["/data", "/sys"], "/", Some("mount")),
        (&["/etc/../sys/fs/cgroup"], "", Some("mount")),
        // The engine begins at the root.
        (&["sys"], "", Some("mount")),
        (&["../proc"], "", Some("mount")),
        (&["/"], "", Some("mount")),
        (&["/dev/shm/x"], "", Some("unlimited shm")),
        (&[], "/proc/self/fd/8", Some("working-dir")),
    ] {
        let expected = Vec::from_iter(expected.map(|name| ("Image".to_owned(), name)));
        assert_eq!(created(create, &facts(volumes, working_dir)), expected, "{volumes:?} {working_dir}");
    }
    assert_eq!(created(r#"{"Image":"base","WorkingDir":"/srv"}"#, &facts(&[], "/proc/self/fd/8")), []);
}

/// An engine takes it where the container's own has no words.
#[test]
fn the_health_check_of_its_image_is_judged() {
    let facts = brought(Brings { health: vec!["CMD".to_owned()], ..Brings::default() });
    for (member, understood) in [
        ("", false),
        (r#","Healthcheck":{"Interval":1000000000}"#, false),
        (r#","Healthcheck":{"Test":[]}"#, false),
        (r#","Healthcheck":{"Test":["NONE"]}"#, true),
        (r#","Healthcheck":{"Test":["CMD","true"]}"#, true),
    ] {
        let body = format!("{{\"Image\":\"base\"{member}}}");
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        let demands = Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap().demands(&facts);
        assert_eq!(demands.iter().all(|demanded| demanded.at != "Healthcheck.Test"), understood, "{member}");
    }
}

#[test]
fn a_stored_container_is_judged_with_the_volumes_of_its_image() {
    let demands = |volumes: &str| {
        let config = format!("{{\"User\":\"1\",\"WorkingDir\":\"/\",\"Volumes\":{volumes}}}");
        let json = format!("{{\"Id\":\"c\",\"Image\":\"base\",\"Config\":{config},\"HostConfig\":{{}}}}");
        system(&Stored::decode(json.as_bytes()).unwrap().demands(&Facts::default(), &Defaults::default()))
    };
    assert_eq!(demands("null"), []);
    assert_eq!(demands(r#"{"/data":{}}"#), []);
    assert_eq!(demands(r#"{"/data":{},"sys":{}}"#), [("Volumes".to_owned(), "mount")]);
}

#[test]
fn all_ports_of_its_image_are_published() {
    let demanded = |demands: &Demands| {
        demands.iter().find_map(|demanded| if let Demand::Quantity(Quantity::Ports, amount) = &demanded.demand { Some(*amount) } else { None })
    };
    let facts = |ports: &[&str]| brought(Brings { ports: ports.iter().map(|port| (*port).to_owned()).collect(), ..Brings::default() });
    let created = |ports: &[&str], all: bool| {
        let body = format!("{{\"Image\":\"base\",\"ExposedPorts\":{{\"80/tcp\":{{}}}},\"HostConfig\":{{\"PublishAllPorts\":{all}}}}}");
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        demanded(&Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap().demands(&facts(ports)))
    };
    assert_eq!(created(&["80", "443/TCP", "53/udp"], true), Some(Amount(Some(3))));
    assert_eq!(created(&["1-65535/tcp"], false), None);
    assert_eq!(created(&["http"], true), Some(Amount(None)), "who knows what the engine makes of it");
    // Once it is made, the ports of its image are in its own configuration.
    let stored = |ports: &str| {
        let config = format!("{{\"User\":\"1\",\"ExposedPorts\":{ports}}}");
        let json = format!("{{\"Id\":\"c\",\"Image\":\"base\",\"Config\":{config},\"HostConfig\":{{\"PublishAllPorts\":true}}}}");
        demanded(&Stored::decode(json.as_bytes()).unwrap().demands(&Facts::default(), &Defaults::default()))
    };
    assert_eq!(stored("null"), None);
    assert_eq!(stored(r#"{"80/tcp":{},"81/tcp":{}}"#), Some(Amount(Some(2))));
}

#[test]
fn what_is_mounted_at_dev_shm_is_shared_memory() {
    for (host, expected) in [
        (r#"{"Tmpfs":{"/dev/shm":"size=1m"}}"#, &["shm"][..]),
        (r#"{"Tmpfs":{"/dev/./shm/":""}}"#, &["unlimited shm"]),
        (r#"{"Tmpfs":{"/dev/shm":"size=1m,size=1g"}}"#, &["shm", "shm"]),
        (r#"{"Tmpfs":{"/dev/shmx":"size=1m"}}"#, &["mount"]),
        (r#"{"Mounts":[{"Type":"tmpfs","Target":"/dev/shm","TmpfsOptions":{"SizeBytes":1024}}]}"#, &["shm"]),
        (r#"{"Mounts":[{"Type":"volume","Source":"v1","Target":"/dev/shm"}]}"#, &["unlimited shm"]),
        (r#"{"Binds":["v1:/dev/shm"]}"#, &["unlimited shm"]),
        (r#"{"ShmSize":1024}"#, &["shm"]),
        (r#"{"Binds":["v1:/data"],"Tmpfs":{"/x":""}}"#, &[]),
    ] {
        let found = created(&format!("{{\"Image\":\"base\",\"HostConfig\":{host}}}"), &facts(&[], ""));
        assert_eq!(found.iter().map(|(_, name)| *name).collect::<Vec<_>>(), expected, "{host}");
    }
    assert_eq!(created(r#"{"Image":"base","Volumes":{"/dev/shm":{}}}"#, &facts(&[], "")), [("Volumes".to_owned(), "unlimited shm")]);
}

/// The engine would make them with nobody for their owner; without a source they stay what they are to it.
#[test]
fn volumes_without_a_name_are_written_with_their_owner() {
    let mut known = facts(&["/data", "/srv/../db/", "relative"], "");
    let donor = Object { mounted: BTreeSet::from(["/db".to_owned()]), ..Object::named(ObjectKind::Container, "donor", Owner::Own) };
    known.insert(Reference { kind: ObjectKind::Container, name: "donor".to_owned() }, Some(donor.into()));
    for (members, expected) in [
        ("", &["/data", "/db"][..]),
        (r#","Volumes":{"/own":{},"/data":{}}"#, &["/data", "/db", "/own"]),
        (r#","HostConfig":{"Binds":["/anonymous","v:/data","/srv:/db/"]}"#, &["/anonymous"]),
        (r#","HostConfig":{"Tmpfs":{"/data/":""},"Mounts":[{"Type":"tmpfs","Target":"/db"}]}"#, &[]),
        (r#","HostConfig":{"VolumesFrom":["donor"]}"#, &["/data"]),
    ] {
        let body = format!("{{\"Image\":\"base\"{members}}}");
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        let mut request = Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap();
        request.bind(&known);
        request.claim("alice");
        let Payload::Json(sent) = request.encode(Version::new(41).unwrap()).payload else { panic!("no body") };
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let mounts = sent["HostConfig"]["Mounts"].as_array().cloned().unwrap_or_default();
        let made: Vec<&str> = mounts.iter().filter(|mount| mount["Type"] == "volume").map(|mount| mount["Target"].as_str().unwrap()).collect();
        assert_eq!(made, expected, "{members}");
        let owned = |mount: &Value| mount["Source"].is_null() && mount["VolumeOptions"]["Labels"][OWNER_LABEL] == "alice";
        assert!(mounts.iter().filter(|mount| mount["Type"] == "volume").all(owned), "{members}: {mounts:?}");
        let binds = sent["HostConfig"]["Binds"].to_string();
        assert!(!binds.contains("anonymous"), "once is enough: {binds}");
    }
}

#[test]
fn a_volume_that_a_process_may_have_seen_is_not_filled() {
    let mut known = facts(&[], "");
    known.insert_unseen_volume("new".to_owned());
    let body = r#"{"Image":"base","HostConfig":{"Binds":["had:/a","new:/b:ro"],"Mounts":[{"Type":"volume","Source":"had","Target":"/c"},{"Type":"volume","Source":"new","Target":"/d"}]}}"#;
    let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
    let mut request = Route::parse("POST", "/v1.41/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap();
    request.bind(&known);
    let Payload::Json(sent) = request.encode(Version::new(41).unwrap()).payload else { panic!("no body") };
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    let host = &sent["HostConfig"];
    assert_eq!(host["Binds"], serde_json::json!(["had:/a:rw,nocopy", "new:/b:ro"]));
    assert_eq!([0, 1].map(|n| host["Mounts"][n]["VolumeOptions"]["NoCopy"].clone()), [Value::Bool(true), Value::Null]);
}

#[test]
fn what_stays_writable_below_a_read_only_mount_is_demanded_writable() {
    let writable = |host: &str, below: bool| {
        let mut facts = facts(&[], "");
        if below {
            facts.insert_writable_below("/srv".to_owned());
        }
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        let body = format!("{{\"Image\":\"base\",\"HostConfig\":{host}}}");
        let demands = Route::parse("POST", "/v1.43/containers/create").unwrap().decode(&headers, body.as_bytes()).unwrap().demands(&facts);
        demands.iter().find_map(|demanded| if let Demand::Bind(bind) = &demanded.demand { Some(bind.writable) } else { None }).unwrap()
    };
    for host in [r#"{"Binds":["/srv:/m:ro"]}"#, r#"{"Mounts":[{"Type":"bind","Source":"/srv","Target":"/m","ReadOnly":true}]}"#] {
        assert_eq!([writable(host, false), writable(host, true)], [false, true], "{host}");
    }
}

#[test]
fn a_build_works_and_mounts_in_no_system_path() {
    for (text, expected) in [
        ("WORKDIR /app\nWORKDIR proc\nVOLUME /data\nVOLUME [\"/sysfs\"]", None),
        ("WORKDIR /proc/self/fd/8", Some((2, "working-dir"))),
        ("WORKDIR \"/pr\\oc/self\"", Some((2, "working-dir"))),
        ("RUN x\nWORKDIR proc", Some((3, "working-dir"))),
        ("WORKDIR /app\nWORKDIR ../sys", Some((3, "working-dir"))),
        ("WORKDIR /app\nFROM scratch\nWORKDIR dev/fd", Some((4, "working-dir"))),
        ("VOLUME /data /sys", Some((2, "mount"))),
        ("VOLUME [\"/data\", \"/data/../proc\"]", Some((2, "mount"))),
        ("VOLUME sys", Some((2, "mount"))),
        ("ONBUILD WORKDIR /proc", Some((2, "working-dir"))),
        // What a variable means is known to the engine alone.
        ("WORKDIR $HOME/x", None),
    ] {
        let read = Dockerfile::parse(format!("FROM base\n{text}\n").as_bytes(), &BTreeMap::new()).unwrap();
        let expected = Vec::from_iter(expected.map(|(line, name)| (format!("Dockerfile:{line}"), name)));
        assert_eq!(system(&read.demands(&facts(&[], ""))), expected, "{text}");
    }
    let read = Dockerfile::parse(b"FROM scratch\nFROM base", &BTreeMap::new()).unwrap();
    let brought = |facts: &Facts| system(&read.brought_demands(facts).unwrap());
    assert_eq!(brought(&facts(&["/data"], "/srv")), []);
    assert_eq!(brought(&facts(&["/sys"], "/proc")), [("Dockerfile:2".to_owned(), "mount"), ("Dockerfile:2".to_owned(), "working-dir")]);
    let deep = format!("WORKDIR {}\n", "x/".repeat(100)).repeat(30);
    assert!(Dockerfile::parse(format!("FROM base\n{deep}").as_bytes(), &BTreeMap::new()).unwrap_err().why.contains("too long"));
}
