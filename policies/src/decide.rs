//! The decision: every demand must be covered by a grant.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use engine::demand::{Amount, Demand, Demanded, Demands, Flag, ImageUse, Operate, Quantity, Role, UsedObject};
use engine::facts::{Object, ObjectKind, Owner, PREDEFINED_NETWORKS};
use engine::operation::{Effect, Family, OPERATIONS, Operation, OperationId};
use engine::query::{Filters, Value};
use engine::reference::ImageReference;
use engine::request::Encoded;
use engine::{KIND_LABEL, OWNER_LABEL, Request, Version};

use crate::compile::Policy;
use crate::grant::{ImagePattern, Scope};
use crate::syntax::NAME_KEYS;

/// A request that may be forwarded. Only [`Policy::decide`] makes one, and only it can be encoded for an engine by the proxy.
#[derive(Debug)]
pub struct Permitted<'a> {
    request: Request<'a>,
    rows: Rows,
    demands: usize,
}

/// The rows of a list that a client may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// All that the engine lists: the filters that were added narrow it.
    All,
    /// Those with all labels of one of these sets.
    Labelled(BTreeSet<Vec<(String, String)>>),
    /// Images that are granted, or carry this owner.
    Images,
    /// A network that every engine has, without the containers on it.
    BareNetwork,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What was asked for.
    pub operation: &'static Operation,
    /// The policy's name.
    pub policy: String,
    /// What no grant covers.
    pub uncovered: Vec<Demanded>,
    /// One of the objects that the client must not learn about, as it was asked for.
    hidden: Option<(ObjectKind, String)>,
}

/// How a refusal looks to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialKind {
    /// Something of that name is there already.
    Conflict,
    /// What is not theirs looks as if it did not exist.
    Hidden,
    /// A create names a network that is not theirs, or does not exist. No engine answers that with 404, and clients take it for a missing image,
    /// which they then pull.
    HiddenInCreate,
    /// It is not granted.
    NotGranted,
    /// It is not understood.
    NotUnderstood,
}

impl Policy {
    /// Decides a bound request by its demands. What is permitted is claimed for the tenant, and lists are narrowed to what it may see.
    ///
    /// # Errors
    /// [`Denial`]: some demand is not covered.
    pub fn decide<'a>(&self, mut request: Request<'a>, demands: &Demands, tenant: &str) -> Result<Permitted<'a>, Box<Denial>> {
        let operation = request.operation;
        self.cover(operation, demands)?;
        if demands.is_empty() || !operation.is_typed() {
            return Err(self.deny(operation, Vec::new()));
        }
        request.claim(tenant);
        let rows = self.narrow(&mut request, tenant);
        // `before` and `since` take any object's name, and tell whether there is one. Containers are demanded like those of a path.
        let pointing =
            matches!(request.query.get("filters"), Some(Value::Filters(filters)) if Filters::POINTS.iter().any(|key| filters.0.contains_key(*key)));
        if pointing
            && !self.scopes(operation).contains(&Scope::All)
            && !matches!(operation.id, OperationId::ContainerList | OperationId::SystemEvents)
        {
            let demand = Demand::NotUnderstood("`before` and `since`, in a list that is narrowed to what is yours".to_owned());
            return Err(self.deny(operation, vec![Demanded { at: "filters".into(), demand }]));
        }
        Ok(Permitted { request, rows, demands: demands.len() })
    }

    /// Decides demands of an operation that come of something else than its request: a stored container, a Dockerfile.
    ///
    /// # Errors
    /// [`Denial`]: some demand is not covered.
    pub fn cover(&self, operation: &'static Operation, demands: &Demands) -> Result<(), Box<Denial>> {
        let uncovered: Vec<Demanded> = demands.iter().filter(|demanded| !self.covers(&demanded.demand)).cloned().collect();
        if uncovered.is_empty() { Ok(()) } else { Err(self.deny(operation, uncovered)) }
    }

    /// A refusal by this policy.
    #[must_use]
    pub fn deny(&self, operation: &'static Operation, uncovered: Vec<Demanded>) -> Box<Denial> {
        let hidden = uncovered.iter().find_map(|demanded| self.hidden(operation, &demanded.demand));
        Box::new(Denial { operation, policy: self.name.clone(), uncovered, hidden })
    }

    /// The object of a demand, where the client must not learn about it.
    fn hidden(&self, operation: &Operation, demand: &Demand) -> Option<(ObjectKind, String)> {
        let unseen = |object: &Rc<Object>| (object.owner != Owner::Own && !self.shows(object)).then(|| (object.kind, object.asked.clone()));
        #[expect(clippy::wildcard_enum_match_arm, reason = "few demands name an object")]
        match demand {
            Demand::Operate(Operate { object: Some(object), .. }) if object.kind != ObjectKind::Image => unseen(object),
            // That every engine has a `bridge` is no secret.
            Demand::Use(_, UsedObject::Known(object)) if object.kind != ObjectKind::Volume && !object.is_predefined_network() => unseen(object),
            Demand::Use(_, UsedObject::Missing(kind, name)) => Some((*kind, name.clone())),
            Demand::Image(image) if operation.family == Family::Image && operation.path.contains('{') => {
                Some((ObjectKind::Image, image.written.clone()))
            }
            _ => None,
        }
    }

    /// Whether the client may look at an object.
    fn shows(&self, object: &Rc<Object>) -> bool {
        let look = match object.kind {
            ObjectKind::Container => OperationId::ContainerInspect,
            ObjectKind::Exec => OperationId::ExecInspect,
            ObjectKind::Image => OperationId::ImageInspect,
            ObjectKind::Network => OperationId::NetworkInspect,
            ObjectKind::Volume => OperationId::VolumeInspect,
        };
        self.grants(look, object)
    }

    /// Whether an operation on an object is granted.
    #[must_use]
    pub fn grants(&self, id: OperationId, object: &Rc<Object>) -> bool {
        let operation = OPERATIONS.iter().find(|operation| operation.id == id);
        operation.is_some_and(|operation| self.covers_operation(&Operate { operation, object: Some(Rc::clone(object)) }))
    }

    /// Whether a grant covers a demand.
    #[must_use]
    pub fn covers(&self, demand: &Demand) -> bool {
        match demand {
            Demand::Bind(bind) => self.binds.iter().any(|grant| grant.covers(bind)),
            Demand::Flag(flag) => self.allow.contains(flag),
            Demand::Named(name, value) => self.names.get(name).is_some_and(|patterns| patterns.iter().any(|pattern| pattern.covers(*name, value))),
            Demand::Image(image) => self.images.iter().any(|pattern| pattern.covers(image)),
            Demand::NotUnderstood(_) | Demand::Taken(..) => false,
            Demand::Operate(operate) => self.covers_operation(operate),
            Demand::Port(port) => self.ports.iter().any(|grant| grant.covers(port)),
            Demand::Quantity(quantity, amount) => self.limits.get(quantity).is_some_and(|most| at_most(*amount, *most)),
            Demand::Tag(tag) => self.tags.iter().any(|pattern| pattern.covers(tag)),
            Demand::Use(role, object) => self.covers_use(*role, object),
        }
    }

    /// Whether some grant of host paths is about this one, so that it matters what the host has there.
    #[must_use]
    pub fn reaches(&self, path: &str) -> bool {
        self.binds.iter().any(|grant| grant.reaches(path))
    }

    fn covers_use(&self, role: Role, object: &UsedObject) -> bool {
        match role {
            Role::AttachNetwork => self.networks.iter().any(|pattern| pattern.covers(object)),
            Role::MountVolume => self.volumes.iter().any(|pattern| pattern.covers(object)),
            Role::Container | Role::JoinIpc | Role::JoinNetwork | Role::JoinPid | Role::Link | Role::VolumesFrom => {
                self.containers.iter().any(|pattern| pattern.covers(object))
            }
        }
    }

    fn covers_operation(&self, operate: &Operate) -> bool {
        let scopes = self.scopes(operate.operation);
        operate.operation.is_typed() && (scopes.iter().any(|scope| scope.covers(operate)) || (!scopes.is_empty() && self.shares_predefined(operate)))
    }

    /// Whether a network that every engine has is looked at, or a container attached to it or taken from it, by one who may use it: its addresses
    /// are in all of its containers. The container is a demand of its own; the host's network has no containers that come and go.
    fn shares_predefined(&self, operate: &Operate) -> bool {
        let network =
            operate.object.as_ref().filter(|object| object.is_predefined_network() && (object.name != "host" || operate.effect() == Effect::Read));
        matches!(operate.operation.id, OperationId::NetworkInspect | OperationId::NetworkConnect | OperationId::NetworkDisconnect)
            && network.is_some_and(|network| self.covers_use(Role::AttachNetwork, &UsedObject::Known(Rc::clone(network))))
    }

    /// The scopes in which an operation is granted.
    fn scopes(&self, operation: &Operation) -> BTreeSet<&Scope> {
        let granted = self.operations.get(&operation.family).into_iter().flatten();
        granted.filter(|(key, _)| key.covers(operation)).flat_map(|(_, scopes)| scopes).collect()
    }

    /// The widest scope of every operation of an effect, for the decision matrix: `own`, `all`, `label` or nothing.
    #[must_use]
    pub fn widest(&self, operation: &Operation) -> &'static str {
        let scopes = self.scopes(operation);
        match () {
            () if !operation.is_typed() || scopes.is_empty() => "-",
            () if scopes.contains(&Scope::All) => "all",
            () if scopes.contains(&Scope::Own) => "own",
            () => "label",
        }
    }

    /// The decision matrix: families against effects, and on whose objects. `-`: nobody's, or not decoded yet.
    #[must_use]
    pub fn matrix(&self) -> String {
        let mut text = format!("{:<10}", "");
        for effect in Effect::ALL {
            let _ = write!(text, "{:<14}", effect.name());
        }
        for family in Family::ALL {
            text = format!("{}\n{:<10}", text.trim_end(), family.name());
            for effect in Effect::ALL {
                let of_both = OPERATIONS.iter().filter(|operation| operation.family == family && operation.effect == effect);
                let scopes: BTreeSet<&str> = of_both.map(|operation| self.widest(operation)).collect();
                let _ = write!(text, "{:<14}", scopes.into_iter().collect::<Vec<_>>().join("/"));
            }
        }
        text = format!("{}\n\n", text.trim_end());
        for operation in OPERATIONS {
            let _ =
                writeln!(text, "{:<10}{:<12}{:<28}{}", operation.family.name(), operation.effect.name(), operation.id.name(), self.widest(operation));
        }
        text
    }

    /// Narrows a list to what the scopes show. Never widens: filters are added to those of the client, and the engine ANDs labels.
    fn narrow(&self, request: &mut Request<'_>, tenant: &str) -> Rows {
        let lists = matches!(
            request.operation.id,
            OperationId::ContainerList
                | OperationId::ContainerPrune
                | OperationId::ImageList
                | OperationId::ImagePrune
                | OperationId::NetworkList
                | OperationId::NetworkPrune
                | OperationId::SystemEvents
                | OperationId::VolumeList
                | OperationId::VolumePrune
        );
        let scopes = self.scopes(request.operation);
        let shows_names = matches!(request.operation.id, OperationId::ImageInspect | OperationId::ImageHistory);
        if shows_names && !self.images.contains(&ImagePattern::Any) {
            return Rows::Images;
        }
        if scopes.contains(&Scope::All) {
            return Rows::All;
        }
        if request.operation.id == OperationId::NetworkInspect {
            let predefined = request.object.as_deref().is_some_and(|name| PREDEFINED_NETWORKS.contains(&name));
            return if predefined { Rows::BareNetwork } else { Rows::All };
        }
        if !lists {
            return Rows::All;
        }
        if request.operation.id == OperationId::ImageList {
            return Rows::Images;
        }
        let mut own = vec![(OWNER_LABEL.to_owned(), tenant.to_owned())];
        let kind = match request.operation.family {
            Family::Container | Family::System => ObjectKind::Container.label(),
            Family::Image => ObjectKind::Image.label(),
            Family::Network | Family::Plugin | Family::Swarm | Family::Volume => None,
        };
        own.extend(kind.map(|kind| (KIND_LABEL.to_owned(), kind.to_owned())));
        let labels: BTreeSet<Vec<(String, String)>> = scopes
            .into_iter()
            .filter_map(|scope| match scope {
                Scope::All => None,
                Scope::Label(key, value) => Some(vec![(key.clone(), value.clone())]),
                Scope::Own => Some(own.clone()),
            })
            .collect();
        // A prune takes what it lists, and nobody can narrow its answer: it gets the tenant's own alone.
        let prune = request.operation.effect == Effect::Delete;
        let one = match labels.first().filter(|_| labels.len() == 1) {
            Some(labels) => labels,
            None if prune => &own,
            None => return Rows::Labelled(labels),
        };
        request.query.change_filters(|filters| one.iter().for_each(|(key, value)| filters.and_label(format!("{key}={value}"))));
        Rows::All
    }

    /// The key of a policy that would grant a demand, with its value.
    #[must_use]
    pub fn remedy(demand: &Demand) -> Option<String> {
        Some(match demand {
            Demand::Bind(bind) if is_engine_socket(&bind.source) => return None,
            Demand::Bind(bind) => format!("binds: [{{ source: {}, mode: {} }}]", bind.source, if bind.writable { "rw" } else { "ro" }),
            Demand::Flag(flag) => format!("allow: [{}]", flag.word()),
            Demand::Named(name, value) => {
                let key = NAME_KEYS.iter().find(|(kind, _)| kind == name).map_or("", |(_, key)| key);
                format!("{key}: [{}]", quoted(value.trim_start_matches('+')))
            }
            Demand::Image(image) if of_a_helper(image).is_some() => return None,
            // An id is not told whose name it is.
            Demand::Image(image) => format!("images: [{}]", ImageReference::parse(&image.written).ok()?.repository()),
            Demand::NotUnderstood(_) | Demand::Taken(..) => return None,
            Demand::Operate(operate) if !operate.operation.is_typed() => return None,
            Demand::Operate(operate) => format!(
                "operations: {{ {}: {{ {}: {} }} }}",
                operate.family().name(),
                operate.operation.id,
                if operate.object.as_ref().is_some_and(|object| object.owner != Owner::Own) { "all" } else { "own" }
            ),
            Demand::Port(port) => match (port.ports, port.address) {
                (None, _) => "ports: [ephemeral]".to_owned(),
                (Some(range), None) => format!("ports: [{}]", written(range)),
                (Some(range), Some(address)) => format!("ports: ['{address}:{}']", written(range)),
            },
            Demand::Quantity(quantity, Amount(amount)) => match amount {
                Some(amount) if *quantity == Quantity::Cpus => {
                    format!("limits: {{ cpus: '{}.{:09}' }}", amount / 1_000_000_000, amount % 1_000_000_000)
                }
                Some(amount) => format!("limits: {{ {}: {amount} }}", quantity.word()),
                None => format!("limits: {{ {}: unlimited }}", quantity.word()),
            },
            Demand::Tag(tag) if matches!(tag.taken, None | Some(Owner::Own)) => format!("tags: [{}]", tag.name.repository()),
            Demand::Tag(_) => "tags: ['**']".to_owned(),
            Demand::Use(_, UsedObject::Missing(..)) => return None,
            Demand::Use(role, UsedObject::Known(object)) => {
                let whose = match object.owner {
                    Owner::Nobody => object.asked.as_str(),
                    Owner::Other => "all",
                    Owner::Own => "own",
                };
                format!("{}: [{whose}]", use_key(*role))
            }
            Demand::Use(role, UsedObject::New(..)) => format!("{}: [own]", use_key(*role)),
        })
    }
}

const fn use_key(role: Role) -> &'static str {
    match role {
        Role::AttachNetwork => "networks",
        Role::MountVolume => "volumes",
        Role::Container | Role::JoinIpc | Role::JoinNetwork | Role::JoinPid | Role::Link | Role::VolumesFrom => "containers",
    }
}

/// What a client can do that needs no other grant, or a safer one.
fn instead(demand: &Demand) -> Option<&'static str> {
    match demand {
        Demand::Bind(bind) if is_engine_socket(&bind.source) => Some(
            "an engine's socket is the whole host: let seawall serve one for this client, and mount that; testcontainers needs none with \
             TESTCONTAINERS_RYUK_DISABLED=true",
        ),
        Demand::Flag(Flag::BuildKit) => Some(NO_BUILDKIT),
        Demand::Image(image) => of_a_helper(image),
        Demand::Flag(Flag::RootUser) => Some("name a user by its number, as in `--user 65534`"),
        Demand::Quantity(Quantity::Cpus, Amount(None)) => Some("name `--cpus`, or a period together with a quota"),
        Demand::Use(Role::AttachNetwork, UsedObject::Known(object)) if object.is_predefined_network() => {
            Some("name another network: `none`, or one that `docker network create` makes")
        }
        Demand::Bind(_) | Demand::Flag(_) | Demand::Named(..) | Demand::NotUnderstood(_) | Demand::Operate(_) => None,
        Demand::Port(_) | Demand::Quantity(..) | Demand::Tag(_) | Demand::Taken(..) | Demand::Use(..) => None,
    }
}

/// Images that clients start to have them drive the engine: to grant them is no use, for what they do next is refused.
fn of_a_helper(image: &ImageUse) -> Option<&'static str> {
    let repository = ImageReference::parse(&image.written).ok()?.repository();
    match () {
        () if repository.ends_with("/moby/buildkit") => Some(NO_BUILDKIT),
        () if repository.ends_with("/testcontainers/ryuk") => Some("testcontainers does without with TESTCONTAINERS_RYUK_DISABLED=true"),
        () => None,
    }
}

const NO_BUILDKIT: &str = "with DOCKER_BUILDKIT=0 in its environment, docker builds without BuildKit";

/// Whether a path is where an engine listens, by its name. Seawall's own sockets are called so too, in a folder of their own.
fn is_engine_socket(path: &str) -> bool {
    ["/docker.sock", "/podman.sock", "/containerd.sock"].iter().any(|name| path.ends_with(name)) && !path.contains("/seawall/")
}

fn written((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn quoted(value: &str) -> String {
    if value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

fn at_most(asked: Amount, granted: Amount) -> bool {
    match (asked.0, granted.0) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(asked), Some(granted)) => asked <= granted,
    }
}

impl<'a> Permitted<'a> {
    /// The request as the engine gets it.
    #[must_use]
    pub fn encode(&self, version: Version) -> Encoded {
        self.request.encode(version)
    }

    /// The request that was judged.
    #[must_use]
    pub fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// The rows of the answer that the client may see.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// How many demands were covered.
    #[must_use]
    pub fn demands(&self) -> usize {
        self.demands
    }
}

impl Denial {
    /// How it looks to the client.
    #[must_use]
    pub fn kind(&self) -> DenialKind {
        let hidden = self.hidden.as_ref().map(|(kind, _)| *kind);
        if hidden == Some(ObjectKind::Network) && self.operation.id == OperationId::ContainerCreate {
            DenialKind::HiddenInCreate
        } else if hidden.is_some() || self.is_probe() {
            DenialKind::Hidden
        } else if self.uncovered.iter().any(|demanded| matches!(demanded.demand, Demand::Taken(..))) {
            DenialKind::Conflict
        } else if !self.uncovered.is_empty() && self.uncovered.iter().all(|demanded| matches!(demanded.demand, Demand::NotUnderstood(_))) {
            DenialKind::NotUnderstood
        } else {
            DenialKind::NotGranted
        }
    }

    /// `docker inspect NAME` asks for one kind of object after another until it is found: a refusal would end that.
    fn is_probe(&self) -> bool {
        self.operation.method == "GET" && self.operation.path.contains('{') && matches!(self.operation.family, Family::Plugin | Family::Swarm)
    }
}

impl std::error::Error for Denial {}

/// A name as a client gets it back; of a whole id only the part that people read.
fn shown(name: &str) -> &str {
    let whole = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if whole { name.get(..12).unwrap_or(name) } else { name }
}

/// What a client is told. The words for what is hidden are the engine's own for what does not exist.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.kind(), DenialKind::Hidden | DenialKind::HiddenInCreate) {
            return match &self.hidden {
                Some((ObjectKind::Network, name)) => write!(f, "network {} not found", shown(name)),
                Some((ObjectKind::Volume, name)) => write!(f, "get {name}: no such volume"),
                Some((kind, name)) => write!(f, "No such {}: {}", kind.name(), shown(name)),
                None => f.write_str("page not found"),
            };
        }
        if let Some(Demand::Taken(kind, name)) =
            self.uncovered.iter().map(|demanded| &demanded.demand).find(|demand| matches!(demand, Demand::Taken(..)))
        {
            return write!(f, "{} with name {name} already exists", kind.name());
        }
        if !self.operation.is_typed() {
            write!(f, "seawall: {} is not mediated: its body is not decoded yet, so no policy can grant it", self.operation.id)?;
            let builds = matches!(self.operation.id, OperationId::Session | OperationId::Grpc);
            return if builds { write!(f, " ({NO_BUILDKIT})") } else { Ok(()) };
        }
        write!(f, "seawall: policy `{}` does not grant this {}", self.policy, self.operation.id)?;
        for (n, Demanded { at, demand }) in self.uncovered.iter().take(MOST_TOLD).enumerate() {
            f.write_str(if n == 0 { ": " } else { "; " })?;
            if at != "request" {
                write!(f, "{at}: ")?;
            }
            f.write_str(&clip(demand.to_string(), MOST_CHARACTERS))?;
            match (Policy::remedy(demand), instead(demand)) {
                (Some(remedy), Some(instead)) => write!(f, " (would be granted by `{}`; or {instead})", clip(remedy, MOST_CHARACTERS))?,
                (Some(remedy), None) => write!(f, " (would be granted by `{}`)", clip(remedy, MOST_CHARACTERS))?,
                (None, Some(instead)) => write!(f, " ({instead})")?,
                (None, None) => {}
            }
        }
        match self.uncovered.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Denial {
    /// What is not covered, each in a line, as a record has it: as much as is told to the client.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let told = self.uncovered.iter().take(MOST_TOLD);
        let mut lines: Vec<String> = told.map(|Demanded { at, demand }| format!("{at}: {}", clip(demand.to_string(), MOST_CHARACTERS))).collect();
        if self.uncovered.len() > MOST_TOLD {
            lines.push(format!("and {} more", self.uncovered.len() - MOST_TOLD));
        }
        lines
    }
}

/// Most demands that a refusal names, and most characters of each: a request must not write its whole self into our records.
const MOST_TOLD: usize = 32;
const MOST_CHARACTERS: usize = 400;

/// At most so many characters of a text.
#[must_use]
pub fn clip(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}
