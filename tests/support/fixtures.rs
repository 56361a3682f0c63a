//! The objects of the corpus on a real engine: the client's own, made through the proxy, and a victim's, made on the engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::corpus::Values;
use crate::engine::Engine;
use crate::http::{Response, call};
use crate::image;
use crate::record::escape;
use crate::world::LABEL;

/// The fixture's image, as cases name it.
pub const IMAGE: &str = "docker.io/library/cifixture:1";
const EVIL: &str = "evil/img:1";
const CONTAINERS: [(&str, bool); 3] = [("ci-own1", true), ("ci-own2", false), ("ci-foreign1", true)];
const NETWORKS: [&str; 3] = ["ci-own-net", "ci-own-net2", "ci-foreign-net"];
const VOLUMES: [&str; 2] = ["ci-own-vol", "ci-foreign-vol"];

/// Every object on an engine: its kind and key, and what to call it.
pub type State = BTreeMap<(&'static str, String), String>;

/// The fixtures on one engine behind one proxy.
#[derive(Debug)]
pub struct Fixtures<'a> {
    engine: &'a Engine,
    proxy: PathBuf,
    images: BTreeMap<&'static str, String>,
    saved: Vec<u8>,
    known: BTreeMap<&'static str, Value>,
    base: State,
    /// What the proxy refused of the client's own fixtures; they were made on the engine instead.
    pub refused: BTreeMap<String, String>,
}

impl<'a> Fixtures<'a> {
    /// Imports the images and makes everything.
    #[must_use]
    pub fn new(engine: &'a Engine, proxy: &Path) -> Self {
        let images = BTreeMap::from([
            ("cifixture:1", image::import(engine, "cifixture", "1", "good")),
            (EVIL, image::import(engine, "evil/img", "1", "evil")),
        ]);
        let saved = engine.call("GET", &format!("/images/get?names=cifixture:1&names={}", escape(EVIL)), None);
        assert_eq!(saved.status, 200, "save: {}", saved.text());
        let mut fixtures =
            Self { engine, proxy: proxy.to_owned(), images, saved: saved.body, known: BTreeMap::new(), base: State::new(), refused: BTreeMap::new() };
        fixtures.build();
        fixtures
    }

    /// The engine itself.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.engine
    }

    /// Everything from nothing.
    pub fn build(&mut self) {
        for container in self.engine.json("/containers/json?all=1").unwrap().as_array().unwrap() {
            self.remove(&format!("/containers/{}?force=1&v=1", container["Id"].as_str().unwrap()));
        }
        for target in NETWORKS.map(|name| format!("/networks/{name}")).iter().chain(&VOLUMES.map(|name| format!("/volumes/{name}"))) {
            self.remove(target);
        }
        self.restore_images();
        for name in NETWORKS {
            self.make(name, "/networks/create", &json!({ "Name": name, "Driver": "bridge", "Labels": labels(name) }));
        }
        for name in VOLUMES {
            self.make(name, "/volumes/create", &json!({ "Name": name, "Labels": labels(name) }));
        }
        for (name, running) in CONTAINERS {
            self.container(name, running);
        }
        self.base = self.state();
    }

    /// The client's own objects through the proxy, or on the engine where the proxy refuses; a victim's on the engine.
    fn make(&mut self, name: &str, target: &str, body: &Value) {
        if own(name) {
            let answer = call(&self.proxy, "POST", &format!("/v1.41{target}"), Some(body));
            if answer.status < 400 {
                return;
            }
            self.refused.insert(format!("POST {target} {name}"), format!("{} {}", answer.status, answer.message()));
        }
        let answer = self.engine.call("POST", target, Some(body));
        assert!(answer.status < 400 || answer.status == 409, "fixture {target} {body}: {}", answer.text());
    }

    fn container(&mut self, name: &'static str, running: bool) {
        self.remove(&format!("/containers/{name}?force=1&v=1"));
        let side = if own(name) { "own" } else { "foreign" };
        let env: &[&str] = if own(name) { &[] } else { &["SECRET=foreign-secret"] };
        let body = json!({ "Image": IMAGE, "Cmd": ["sleep", "100000"], "OpenStdin": true, "Labels": labels(name), "Env": env,
            "HostConfig": { "NetworkMode": format!("ci-{side}-net"), "Binds": [format!("ci-{side}-vol:/v")] } });
        self.make(name, &format!("/containers/create?name={name}"), &body);
        if running {
            let started = self.engine.call("POST", &format!("/containers/{name}/start"), Some(&Value::Null));
            assert!(started.status < 400, "start {name}: {}", started.text());
        }
        self.known.insert(name, self.look(name));
    }

    fn remove(&self, target: &str) -> Response {
        self.engine.call("DELETE", target, None)
    }

    /// What may not change of a container.
    fn look(&self, name: &str) -> Value {
        let found = self.engine.json(&format!("/containers/{name}/json")).unwrap_or_default();
        let running = found["State"]["Running"] == true;
        let networks = found["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
        let networks: BTreeMap<_, _> = networks.map(|(net, at)| (net, if running { at["NetworkID"].clone() } else { Value::Null })).collect();
        json!([found["Id"], found["Name"], found["State"]["Status"], found["HostConfig"], found["Config"]["Labels"], networks])
    }

    /// Every object on the engine.
    #[must_use]
    pub fn state(&self) -> State {
        let list = |target: &str| self.engine.json(target).unwrap_or_default();
        let (containers, networks, volumes, images) =
            (list("/containers/json?all=1"), list("/networks"), list("/volumes"), list("/images/json?all=1"));
        let mut state = State::new();
        let mut add = |kind, key: &Value, name: &Value| {
            state.insert((kind, key.as_str().unwrap_or_default().to_owned()), name.as_str().unwrap_or_default().to_owned());
        };
        each(&containers, |c| add("containers", &c["Id"], &c["Names"][0]));
        each(&networks, |n| add("networks", &n["Id"], &n["Name"]));
        each(&volumes["Volumes"], |v| add("volumes", &v["Name"], &v["Name"]));
        each(&images, |i| {
            add("images", &i["Id"], &i["Id"]);
            each(&i["RepoTags"], |tag| {
                if tag != "<none>:<none>" {
                    add("images", &json!(format!("{} {}", i["Id"].as_str().unwrap(), tag.as_str().unwrap())), tag);
                }
            });
        });
        state
    }

    fn restore_images(&self) {
        let right = |name: &str, id: &str| self.engine.json(&format!("/images/{name}/json")).is_some_and(|found| found["Id"] == id);
        if !self.images.iter().all(|(name, id)| right(name, id)) {
            let loaded = image::post_tar(self.engine, "/images/load?quiet=1", &self.saved);
            assert_eq!(loaded.status, 200, "load: {}", loaded.text());
        }
    }

    /// Removes what a case made, and makes again what it took or changed.
    pub fn restore(&mut self) {
        let now = self.state();
        for (kind, key) in now.keys().filter(|key| !self.base.contains_key(*key)) {
            self.remove(&match *kind {
                "containers" => format!("/containers/{key}?force=1&v=1"),
                "images" => format!("/images/{}?force=1", key.rsplit(' ').next().unwrap()),
                _ => format!("/{kind}/{}", escape(key)),
            });
        }
        self.restore_images();
        for (name, running) in CONTAINERS {
            if self.known[name] != self.look(name) {
                self.container(name, running);
            }
        }
        let gone = |state: &State| self.base.keys().any(|key| key.0 != "containers" && !state.contains_key(key));
        let after = self.state();
        if gone(&after) || after.len() != self.base.len() {
            return self.build();
        }
        self.base = after;
    }

    /// What the placeholders of a case stand for. Execs are made when they are asked for: one that was started is gone.
    #[must_use]
    pub fn values(&self, unique: &str, text: &str) -> Values {
        let known = |name: &str| self.known[name][0].as_str().unwrap().to_owned();
        let (own, foreign) = (known("ci-own1"), known("ci-foreign1"));
        let net = |name: &str| self.engine.json(&format!("/networks/{name}")).unwrap()["Id"].as_str().unwrap().to_owned();
        let (image, evil, foreign_net) = (&self.images["cifixture:1"], &self.images[EVIL], net("ci-foreign-net"));
        let pairs = [
            ("N", unique),
            ("IMAGE", IMAGE),
            ("IMAGE_ID", image),
            ("OWNER_LABEL", LABEL),
            ("EVIL_IMAGE", EVIL),
            ("EVIL_IMAGE_ID", evil),
            ("EVIL_IMAGE_HEX", &evil[7..]),
            ("EVIL_IMAGE_SHORT", &evil[7..19]),
            ("EVIL_IMAGE_PREFIX", &evil[7..12]),
            ("OWN_NAME", "ci-own1"),
            ("OWN_ID", &own),
            ("OWN_SHORT", &own[..12]),
            ("OWN2_NAME", "ci-own2"),
            ("FOREIGN_NAME", "ci-foreign1"),
            ("FOREIGN_ID", &foreign),
            ("FOREIGN_SHORT", &foreign[..12]),
            ("FOREIGN_PREFIX", &foreign[..7]),
            ("OWN_NET", "ci-own-net"),
            ("OWN_NET_ID", &net("ci-own-net")),
            ("OWN_NET2", "ci-own-net2"),
            ("HOST_NET_ID", &net("host")),
            ("FOREIGN_NET", "ci-foreign-net"),
            ("FOREIGN_NET_ID", &foreign_net),
            ("FOREIGN_NET_PREFIX", &foreign_net[..7]),
            ("OWN_VOL", "ci-own-vol"),
            ("FOREIGN_VOL", "ci-foreign-vol"),
        ];
        let mut values: Values = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for name in ["OWN_EXEC", "OWN_EXEC2", "OWN_EXEC3", "FOREIGN_EXEC"] {
            if text.contains(&format!("${{{name}}}")) {
                values.insert(name.to_owned(), self.exec(if name.starts_with("OWN") { &own } else { &foreign }));
            }
        }
        values
    }

    fn exec(&self, container: &str) -> String {
        let body = json!({ "Cmd": ["id"], "AttachStdout": true });
        let made = self.engine.call("POST", &format!("/containers/{container}/exec"), Some(&body));
        assert_eq!(made.status, 201, "exec: {}", made.text());
        made.json()["Id"].as_str().unwrap().to_owned()
    }
}

fn each(list: &Value, then: impl FnMut(&Value)) {
    list.as_array().into_iter().flatten().for_each(then);
}

fn own(name: &str) -> bool {
    name.contains("own")
}

fn labels(name: &str) -> Value {
    if own(name) { json!({}) } else { json!({ LABEL: "victim" }) }
}
