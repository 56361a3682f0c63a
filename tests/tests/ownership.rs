//! Two tenants on one engine cannot see or touch each other's objects, whatever they call them by.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::cli::Docker;
use tests::engine::Engine;
use tests::packages::Suite;
use tests::scratch::Scratch;
use tests::town::{IMAGE, Town};
use tests::world::LABEL;

#[test]
fn objects_of_another_tenant_do_not_exist_on_docker_20_10() {
    objects_of_another_tenant_do_not_exist(Suite::Bookworm);
}

#[test]
fn objects_of_another_tenant_do_not_exist_on_docker_26_1() {
    objects_of_another_tenant_do_not_exist(Suite::Trixie);
}

fn objects_of_another_tenant_do_not_exist(suite: Suite) {
    let town = Town::new(suite);
    let (id, exec) = town.furnish();
    let names = ["alice-web".to_owned(), id.clone(), id.chars().take(12).collect(), id.chars().take(5).collect()];
    for name in &names {
        assert_eq!(town.alice.ok(&["inspect", "--type", "container", "--format", "{{.Id}}", name]), id, "alice finds hers by {name}");
    }
    let mut allowed = Vec::new();
    for (method, target, body) in attempts(&names, &exec) {
        let (status, text) = town.bob_gets(method, &target, body.as_ref());
        // as an engine says it of what is not there
        if status != 404 || text.contains("alice-secret") {
            allowed.push(format!("{method} {target}: {status} {text}"));
        }
    }
    assert!(allowed.is_empty(), "bob gets something else than 404:\n{}", allowed.join("\n"));
    let state = town.engine.json(&format!("/containers/{id}/json")).unwrap();
    assert_eq!((&state["State"]["Status"], &state["Name"]), (&json!("running"), &json!("/alice-web")), "nothing has happened to alice's");
}

/// What bob tries on alice's objects by reference.
fn attempts(containers: &[String], exec: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let empty = Some(json!({}));
    let mut all = Vec::new();
    for name in containers {
        for tail in ["json", "logs?stdout=1", "top", "stats?stream=0&one-shot=1", "changes", "archive?path=/etc"] {
            all.push(("GET", format!("/containers/{name}/{tail}"), None));
        }
        for tail in ["start", "stop", "restart", "kill", "pause", "wait", "rename?name=bobs", "resize?h=1&w=1", "attach?stream=1&stdout=1"] {
            all.push(("POST", format!("/containers/{name}/{tail}"), None));
        }
        all.push(("HEAD", format!("/containers/{name}/archive?path=/etc"), None));
        all.push(("POST", format!("/containers/{name}/update"), Some(json!({ "CpuShares": 2 }))));
        all.push(("POST", format!("/containers/{name}/exec"), Some(json!({ "Cmd": ["id"], "AttachStdout": true }))));
        all.push(("DELETE", format!("/containers/{name}?force=1"), None));
    }
    all.push(("GET", format!("/exec/{exec}/json"), None));
    all.push(("POST", format!("/exec/{exec}/start"), Some(json!({ "Detach": true }))));
    all.push(("POST", format!("/exec/{exec}/resize?h=1&w=1"), empty));
    all.push(("GET", "/networks/alice-net".to_owned(), None));
    all.push(("DELETE", "/networks/alice-net".to_owned(), None));
    all.push(("GET", "/volumes/alice-vol".to_owned(), None));
    all.push(("DELETE", "/volumes/alice-vol".to_owned(), None));
    all.push(("GET", "/images/alice-app/json".to_owned(), None));
    all.push(("GET", "/images/alice-app/history".to_owned(), None));
    all.push(("DELETE", "/images/alice-app".to_owned(), None));
    all
}

#[test]
fn objects_of_another_tenant_cannot_be_used() {
    let town = Town::new(Suite::Trixie);
    let (id, _) = town.furnish();
    let uses: [&[&str]; 9] = [
        &["--network", "alice-net"],
        &["--volume", "alice-vol:/stolen"],
        &["--mount", "type=volume,source=alice-vol,target=/stolen"],
        &["--volumes-from", "alice-web"],
        &["--network", "container:alice-web"],
        &["--pid", "container:alice-web"],
        &["--ipc", "container:alice-web"],
        &["--link", "alice-web:web"],
        &["--network", &format!("container:{id}")],
    ];
    for arguments in uses {
        let run = [&["run", "--rm"], arguments, &[IMAGE, "true"]].concat();
        town.bob.fails(&run);
    }
    town.bob.fails(&["run", "--rm", "alice-app"]);
    town.bob.fails(&["network", "connect", "alice-net", "alice-web"]);
    town.bob.ok(&["create", "--name", "bob-web", IMAGE]);
    town.bob.fails(&["network", "connect", "alice-net", "bob-web"]);
    town.bob.ok(&["network", "create", "bob-net"]);
    town.bob.fails(&["network", "connect", "bob-net", "alice-web"]);
    let context = Scratch::new("context");
    context.write("Dockerfile", "FROM alice-app\nRUN cat /tag\n");
    town.bob.fails(&["build", context.path().to_str().unwrap()]);
    context.write("Dockerfile", format!("FROM {IMAGE}\n"));
    town.bob.fails(&["build", "--tag", "alice-app", context.path().to_str().unwrap()]);
    assert_eq!(town.alice.ok(&["run", "--rm", "alice-app", "cat", "/tag"]), "alice-app", "alice's tag is still hers");
    let left = town.engine.json("/containers/json?all=1").unwrap();
    let names: Vec<&str> = left.as_array().unwrap().iter().map(|c| c["Names"][0].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| ["/alice-web", "/bob-web"].contains(name)), "something was made: {names:?}");
}

#[test]
fn lists_and_events_show_only_the_own_tenant() {
    let town = Town::new(Suite::Trixie);
    let mut events = town.bob.spawn(&["events", "--since", "1h"]);
    let _ = town.furnish();
    town.bob.ok(&["create", "--name", "bob-web", IMAGE]);
    events.wait_for("name=bob-web");
    events.interrupt();
    assert!(!events.output().contains("alice"), "bob hears of alice's objects:\n{}", events.output());
    let lists: [&[&str]; 6] = [
        &["ps", "--all", "--no-trunc"],
        &["ps", "--all", "--filter", "label=seawall.tenant"],
        &["ps", "--all", "--filter", "name=alice"],
        &["network", "ls"],
        &["volume", "ls"],
        &["images", "--all"],
    ];
    for list in lists {
        let shown = town.bob.ok(list);
        assert!(!shown.contains("alice"), "docker {}:\n{shown}", list.join(" "));
    }
    assert!(town.bob.ok(&["ps", "--all"]).contains("bob-web"));
    assert!(town.alice.ok(&["ps"]).contains("alice-web"));
    assert!(town.alice.ok(&["network", "ls"]).contains("alice-net"));
    assert!(town.alice.ok(&["volume", "ls"]).contains("alice-vol"));
    assert!(town.alice.ok(&["images"]).contains("alice-app"));
    let unix = Docker::at(&town.proxy.address());
    assert_eq!(unix.ok(&["ps", "--all", "--quiet"]), "", "the unix user is a third tenant");
}

#[test]
fn owner_label_is_always_set_by_the_proxy() {
    let town = Town::new(Suite::Trixie);
    let honest = town.alice.ok(&["create", IMAGE]);
    let owner = |id: &str| town.engine.json(&format!("/containers/{id}/json")).unwrap()["Config"]["Labels"][LABEL].clone();
    let alice = owner(&honest);
    assert!(alice.is_string(), "a created container has an owner: {alice}");
    let forged = format!("{LABEL}=forged");
    for arguments in [
        ["create", "--label", forged.as_str(), IMAGE].as_slice(),
        &["volume", "create", "--label", &forged, "v"],
        &["network", "create", "--label", &forged, "n"],
    ] {
        town.alice.run(arguments);
    }
    // an image's labels are inherited by its containers
    let context = Scratch::new("context");
    context.write("Dockerfile", format!("FROM {IMAGE}\nLABEL {LABEL}=forged\n"));
    if town.alice.run(&["build", "--tag", "labelled", context.path().to_str().unwrap()]).code == 0 {
        town.alice.run(&["create", "labelled"]);
    }
    every_owner_is(&town.engine, &alice);
}

/// Nothing on the engine has another owner, or, of containers, none.
fn every_owner_is(engine: &Engine, tenant: &Value) {
    let containers = engine.json("/containers/json?all=1").unwrap();
    for container in containers.as_array().unwrap() {
        assert_eq!(container["Labels"][LABEL], *tenant, "{container}");
    }
    let (volumes, networks) = (engine.json("/volumes").unwrap(), engine.json("/networks").unwrap());
    let others = [&volumes["Volumes"], &networks].map(|list| list.as_array().cloned());
    for object in others.into_iter().flatten().flatten() {
        let owner = &object["Labels"][LABEL];
        assert!(owner.is_null() || owner == tenant, "{object}");
    }
}

#[test]
fn implicit_volumes_belong_to_the_tenant_or_are_not_made() {
    let town = Town::new(Suite::Trixie);
    let outcome = town.alice.run(&["run", "--rm", "--volume", "implicit:/v", IMAGE, "touch", "/v/f"]);
    if outcome.code == 0 {
        assert_eq!(town.alice.ok(&["volume", "inspect", "--format", "{{.Name}}", "implicit"]), "implicit");
    }
    assert!(!town.bob.ok(&["volume", "ls", "--quiet"]).contains("implicit"));
    town.bob.fails(&["run", "--rm", "--volume", "implicit:/v", IMAGE, "ls", "/v"]);
}

#[test]
fn volumes_without_a_name_belong_to_their_tenant_on_docker_20_10() {
    volumes_without_a_name_belong_to_their_tenant(Suite::Bookworm);
}

#[test]
fn volumes_without_a_name_belong_to_their_tenant_on_docker_26_1() {
    volumes_without_a_name_belong_to_their_tenant(Suite::Trixie);
}

fn volumes_without_a_name_belong_to_their_tenant(suite: Suite) {
    let town = Town::new(suite);
    let context = Scratch::new("context");
    context.write("Dockerfile", format!("FROM {IMAGE}\nRUN mkdir /data && echo kept > /data/file\nVOLUME /data\n"));
    town.alice.ok(&["build", "--tag", "alice-db", context.path().to_str().unwrap()]);
    let volumes = || -> BTreeSet<String> {
        let listed = town.engine.json("/volumes").unwrap()["Volumes"].clone();
        listed.as_array().into_iter().flatten().map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect()
    };
    // What the image has there is there, and goes with the container.
    let shown = town.alice.ok(&["run", "--rm", "--volume", "/own", "alice-db", "sh", "-c", "cat /data/file && mount"]);
    assert!(shown.contains("kept") && shown.contains(" /own ") && shown.contains(" /data "), "{shown}");
    assert_eq!(volumes(), BTreeSet::new(), "`--rm` takes them with it");

    town.alice.ok(&["run", "--name", "first", "--volume", "/own", "alice-db", "sh", "-c", "echo mine > /data/file"]);
    let made = volumes();
    assert_eq!(made.len(), 2, "{made:?}");
    let listed: BTreeSet<String> = town.alice.ok(&["volume", "ls", "--quiet"]).lines().map(str::to_owned).collect();
    assert_eq!(listed, made, "hers, and she sees them");
    assert_eq!(town.bob.ok(&["volume", "ls", "--quiet"]), "");
    for name in &made {
        town.bob.fails(&["volume", "rm", name]);
        town.bob.fails(&["volume", "inspect", name]);
        town.alice.fails(&["volume", "rm", name]);
    }
    // What is inherited from another container, or mounted by name or in memory, stands in the image's place.
    assert_eq!(town.alice.ok(&["run", "--rm", "--volumes-from", "first", "alice-db", "cat", "/data/file"]), "mine");
    town.alice.ok(&["run", "--rm", "--tmpfs", "/data", "alice-db", "sh", "-c", "mount | grep 'tmpfs on /data '"]);
    assert_eq!(town.alice.ok(&["run", "--rm", "--volume", "named:/data", "alice-db", "cat", "/data/file"]), "kept");
    town.alice.ok(&["volume", "rm", "named"]);
    assert_eq!(volumes(), made);

    town.alice.ok(&["rm", "first"]);
    assert_eq!(volumes(), made, "only `--volumes` takes them");
    for name in &made {
        town.bob.fails(&["volume", "rm", name]);
        town.alice.ok(&["volume", "rm", name]);
    }
    town.alice.ok(&["create", "--name", "second", "--volume", "/own", "alice-db"]);
    assert_eq!(volumes().len(), 2);
    town.alice.ok(&["rm", "--volumes", "second"]);
    assert_eq!(volumes(), BTreeSet::new());
}

#[test]
fn a_volume_is_filled_only_while_no_process_has_seen_it_on_docker_20_10() {
    a_volume_is_filled_only_while_no_process_has_seen_it(Suite::Bookworm);
}

#[test]
fn a_volume_is_filled_only_while_no_process_has_seen_it_on_docker_26_1() {
    a_volume_is_filled_only_while_no_process_has_seen_it(Suite::Trixie);
}

/// The engine fills it as root and by path: a process that has a directory of it open could lead it out of there.
fn a_volume_is_filled_only_while_no_process_has_seen_it(suite: Suite) {
    let town = Town::new(suite);
    let context = Scratch::new("context");
    context.write("Dockerfile", format!("FROM {IMAGE}\nRUN mkdir /data && echo kept > /data/file\n"));
    town.alice.ok(&["build", "--tag", "alice-db", context.path().to_str().unwrap()]);
    let contents = |mount: &[&str]| town.alice.ok(&[&["run", "--rm"], mount, &["alice-db", "ls", "/data"]].concat());

    town.alice.ok(&["volume", "create", "early"]);
    assert_eq!(contents(&["--volume", "early:/data"]), "file", "what is made before is filled when it is first mounted");
    town.alice.ok(&["create", "--name", "holder", "--volume", "shared:/v:nocopy", "--volume", "/own", IMAGE]);
    let unnamed = town.alice.ok(&["inspect", "--format", r#"{{range .Mounts}}{{if eq .Destination "/own"}}{{.Name}}{{end}}{{end}}"#, "holder"]);
    for mount in ["--volume=shared:/data", "--mount=type=volume,source=shared,target=/data", &format!("--volume={unnamed}:/data")] {
        assert_eq!(contents(&[mount]), "", "{mount} of a container that may run by now");
    }
    town.alice.ok(&["rm", "holder"]);
    assert_eq!(contents(&["--volume", "shared:/data"]), "", "a process may still have a directory of it open");
    town.alice.ok(&["volume", "create", "shared"]);
    assert_eq!(contents(&["--volume", "shared:/data"]), "", "it was not made anew");
    town.alice.ok(&["volume", "rm", "shared"]);
    town.alice.ok(&["volume", "create", "shared"]);
    town.alice.ok(&["create", "--name", "taken", IMAGE]);
    town.alice.fails(&["create", "--name", "taken", "--volume", "shared:/data", "alice-db"]);
    assert_eq!(contents(&["--volume", "shared:/data"]), "file", "a create that failed has shown it to nobody");
}

#[test]
fn start_is_decided_again_on_what_is_there_now() {
    let town = Town::new(Suite::Trixie);
    town.alice.ok(&["network", "create", "shared-name"]);
    town.alice.ok(&["create", "--name", "late", "--network", "shared-name", IMAGE, "sleep", "1000"]);
    town.alice.ok(&["create", "--rm", "--name", "late-and-gone", "--network", "shared-name", IMAGE, "sleep", "1000"]);
    town.alice.ok(&["network", "rm", "shared-name"]);
    let foreign = town.engine.call("POST", "/networks/create", Some(&json!({ "Name": "shared-name", "Labels": { LABEL: "victim" } })));
    assert_eq!(foreign.status, 201, "{}", foreign.text());
    town.alice.fails(&["start", "late"]);
    town.alice.fails(&["restart", "late"]);
    let late = town.engine.json("/containers/late/json").unwrap();
    assert_eq!(late["State"]["Running"], false, "a container was started in a victim's network");
    town.alice.fails(&["start", "late-and-gone"]);
    assert!(town.engine.json("/containers/late-and-gone/json").is_none(), "as after a start that fails in the engine");
}

#[test]
fn name_like_the_beginning_of_anothers_id_never_reaches_it() {
    let town = Town::new(Suite::Trixie);
    let (id, _) = town.furnish();
    let name: String = id.chars().take(12).collect();
    let made = town.bob.run(&["create", "--name", &name, IMAGE]);
    // such a name may be refused; if it is not, it is bob's
    if made.code == 0 {
        let found = town.bob.ok(&["inspect", "--type", "container", "--format", "{{.Id}}", &name]);
        assert_eq!(found, made.stdout.trim());
        town.bob.ok(&["rm", &name]);
    } else {
        town.bob.fails(&["rm", &name]);
    }
    let alices = town.engine.json(&format!("/containers/{id}/json")).unwrap();
    assert_eq!(alices["State"]["Running"], true, "alice's is still there");
}

#[test]
fn refusals_do_not_tell_what_is_there() {
    let town = Town::new(Suite::Trixie);
    let _ = town.furnish();
    let image = town.engine.json("/images/alice-app/json").unwrap()["Id"].as_str().unwrap().replace("sha256:", "");
    let refusal = |image: &str| {
        let (status, text) = town.bob_gets("POST", "/containers/create", Some(&json!({ "Image": image })));
        assert!(status >= 400, "{image}: {text}");
        (status, text.replace(image, "IMAGE"))
    };
    // Nothing has this id; it is as long as what is compared with it.
    let absent: String = image.chars().map(|c| if c == 'f' { '0' } else { 'f' }).collect();
    let first = |id: &str, length| id.chars().take(length).collect::<String>();
    for length in [5, 12, 64] {
        assert_eq!(refusal(&first(&image, length)), refusal(&first(&absent, length)), "the first {length} digits");
    }
    assert_eq!(refusal(&format!("sha256:{image}")), refusal(&format!("sha256:{absent}")));
}

#[test]
fn images_are_tagged_by_their_owner_with_names_that_are_free() {
    let town = Town::new(Suite::Trixie);
    let _ = town.furnish();
    let context = Scratch::new("context");
    context.write("Dockerfile", format!("FROM {IMAGE}\nRUN echo bob > /tag\n"));
    town.bob.ok(&["build", "--tag", "bob-app", context.path().to_str().unwrap()]);
    town.alice.ok(&["tag", "alice-app", "alice-app:two"]);
    assert_eq!(town.alice.ok(&["run", "--rm", "alice-app:two", "cat", "/tag"]), "alice-app");
    for arguments in [
        ["tag", "alice-app", "bob-own"],   // not his
        ["tag", "bob-app", "alice-app"],   // a name of hers
        ["tag", "bob-app", "postgres:16"], // a name of everybody's
        ["tag", IMAGE, "bob-fixture"],     // granted, and nobody's
        ["tag", "missing", "bob-missing"], // not there
        ["tag", "bob-app", "registry.example.com/team/base:1"],
    ] {
        town.bob.fails(&arguments);
    }
    assert_eq!(town.alice.ok(&["run", "--rm", "alice-app", "cat", "/tag"]), "alice-app");
}

#[test]
fn the_default_bridge_is_shown_without_its_containers() {
    let town = Town::new(Suite::Trixie);
    town.alice.ok(&["run", "--detach", "--name", "alice-on-bridge", IMAGE, "sleep", "100000"]);
    let (status, text) = town.bob_gets("GET", "/networks/bridge", None);
    assert_eq!(status, 200, "{text}");
    let bridge: Value = serde_json::from_str(&text).unwrap();
    assert!(bridge["IPAM"]["Config"][0]["Gateway"].is_string(), "{text}");
    assert_eq!(bridge["Containers"], json!({}));
    assert_eq!(town.bob_gets("GET", "/networks/host", None).0, 404, "a network that is not granted");
}
