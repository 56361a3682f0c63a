//! From a bound request to its demands: one function a body, each taking it apart without `..`, so that a new field does not compile until
//! someone says what it demands.

mod build;
pub(crate) mod container;
mod network;
mod resources;

use std::borrow::Cow;
use std::rc::Rc;

use crate::OWNER_LABEL;
use crate::demand::{Bind, Demand, Demands, Flag, ImageUse, Name, Operate, Role, UsedObject};
use crate::facts::{Facts, Object, ObjectKind, Owner, PREDEFINED_NETWORKS, Process};
use crate::operation::OperationId;
use crate::query::Value;
use crate::reference::{ImageReference, is_hex};
use crate::request::{Body, Request, object_kind};
use crate::types::exec::{ExecCreate, ExecStart};
use crate::types::network::NetworkDisconnect;
use crate::types::strings::{clean_path, is_object_name, is_system_path, looks_like_id};
use crate::types::volume::VolumeCreate;
use crate::wire::{Map, Text};

/// Everything that a bound request would make the engine do.
pub(crate) fn of(request: &Request<'_>, facts: &Facts) -> Demands {
    let mut demands = Demands::default();
    operation(request, facts, &mut demands);
    query(request, facts, &mut demands);
    match &request.body {
        Body::ContainerCreate(body) => {
            new_name("name", request.query.text("name"), &mut demands);
            container::create(body, facts, container::View::Request, &mut demands);
        }
        Body::ContainerUpdate(body) => resources::update(body, &mut demands),
        Body::ExecCreate(body) => exec_create(body, &mut demands),
        Body::ExecStart(ExecStart { detach: _, tty: _, console_size: _, hijack: _, stdin: _, stdout: _, stderr: _, stream: _ }) => {
            exec_start(request.object.as_deref().unwrap_or_default(), facts, &mut demands);
        }
        Body::None => {}
        Body::NetworkConnect(body) => network::connect(body, request.object.as_deref().unwrap_or_default(), facts, &mut demands),
        Body::NetworkCreate(body) => network::create(body, facts, &mut demands),
        Body::NetworkDisconnect(NetworkDisconnect { container, force: _ }) => used_container(
            "Container",
            Role::Container,
            container.as_ref().map(ToString::to_string).as_deref().unwrap_or_default(),
            facts,
            &mut demands,
        ),
        Body::Tar if request.operation.id == OperationId::ImageBuild => build::build(&request.query, facts, &mut demands),
        Body::Tar => {}
        Body::VolumeCreate(body) => volume_create(body, facts, &mut demands),
    }
    demands
}

/// The operation itself; for an image that is looked at, the image.
fn operation(request: &Request<'_>, facts: &Facts, demands: &mut Demands) {
    let object = match (object_kind(request.operation), request.object.as_deref()) {
        (Some(kind), Some(name)) => {
            Some(facts.object(kind, name).cloned().or_else(|| predefined_network(kind, name)).unwrap_or_else(|| missing(kind, name)))
        }
        _ => None,
    };
    let looked_at = matches!(request.operation.id, OperationId::ImageInspect | OperationId::ImageHistory);
    if let (true, Some(name)) = (looked_at, &request.object) {
        demands.push("path", image_use(name, facts));
    }
    // To tag, untag or remove an image one must be able to see it.
    if let (OperationId::ImageDelete | OperationId::ImageTag, Some(name)) = (request.operation.id, &request.object) {
        demands.push("path", image_use(name, facts));
    }
    let object = if looked_at { None } else { object };
    demands.push("request", Demand::Operate(Operate { operation: request.operation, object }));
}

/// What is not on the engine is nobody's; the engine says itself that it is not there.
fn missing(kind: ObjectKind, name: &str) -> Rc<Object> {
    Rc::new(Object::named(kind, name, Owner::Nobody))
}

fn predefined_network(kind: ObjectKind, name: &str) -> Option<Rc<Object>> {
    (kind == ObjectKind::Network && PREDEFINED_NETWORKS.contains(&name)).then(|| missing(kind, name))
}

/// What keys of the query demand. Those that are not named here change how something that is permitted is told or done, not what is done.
#[expect(clippy::wildcard_enum_match_arm, reason = "most operations have no key that demands anything")]
fn query(request: &Request<'_>, facts: &Facts, demands: &mut Demands) {
    let text = |key: &str| request.query.text(key);
    // Of all that a container has written (moby, `directory.Size`): a list walks the files of many.
    if matches!(request.operation.id, OperationId::ContainerList | OperationId::ContainerInspect) {
        demands.flag("size", Flag::ContainerSizes, request.query.flag("size"));
    }
    match request.operation.id {
        OperationId::ContainerTop => demands.named("ps_args", Name::TopArguments, text("ps_args")),
        // The engine waits so long though its client has gone.
        OperationId::ContainerStop | OperationId::ContainerRestart => {
            container::stop("t", request.query.int("t"), demands);
        }
        OperationId::ContainerRename => new_name("name", text("name"), demands),
        // Engines clean it below the container's root; a relative one starts there.
        OperationId::PutContainerArchive | OperationId::ContainerArchive | OperationId::ContainerArchiveInfo if text("path").is_empty() => {
            demands.push("path", Demand::NotUnderstood("an empty path".to_owned()));
        }
        OperationId::ContainerList => {
            for name in request.listed_beside() {
                let object = facts.object(ObjectKind::Container, name).cloned().unwrap_or_else(|| missing(ObjectKind::Container, name));
                demands.push("filters", Demand::Operate(Operate { operation: request.operation, object: Some(object) }));
            }
        }
        OperationId::ImageCreate => image_create(request, facts, demands),
        OperationId::ImageTag => build::tag("repo", &request.tag_name(), facts, demands),
        _ => {}
    }
}

/// `POST /images/create`: a pull, or an import where `fromImage` is empty.
fn image_create(request: &Request<'_>, facts: &Facts, demands: &mut Demands) {
    let text = |key: &str| request.query.text(key);
    let import = ["fromSrc", "repo", "message"].into_iter().find(|key| !text(key).is_empty());
    let changes = matches!(request.query.get("changes"), Some(Value::Texts(list)) if !list.is_empty());
    if text("fromImage").is_empty() || import.is_some() || changes {
        demands.push(import.unwrap_or("fromImage"), Demand::Flag(Flag::ImageImport));
        return;
    }
    let written = request.pulled_name();
    match ImageReference::parse(&written) {
        Ok(reference) => {
            demands.flag("tag", Flag::AllTags, reference.tag().is_none() && reference.digest().is_none());
            demands.flag("tag", Flag::MutableTag, reference.digest().is_none());
            // An image of somebody else loses the name; that one has it is no grant to pull it.
            let taken = facts.object(ObjectKind::Image, &reference.to_string()).is_some_and(|object| object.owner == Owner::Other);
            let owner = if taken { Owner::Other } else { Owner::Nobody };
            demands.push("fromImage", Demand::Image(ImageUse { written, names: vec![reference], owner }));
        }
        Err(why) => demands.push("fromImage", Demand::NotUnderstood(why)),
    }
}

/// A name that a container gets.
fn new_name(at: &'static str, name: &str, demands: &mut Demands) {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if looks_like_id(bare) {
        demands.push(at, Demand::NotUnderstood(format!("the name `{name}` could be read as an id")));
    } else if !bare.is_empty() && !is_object_name(bare) {
        demands.push(at, Demand::NotUnderstood(format!("`{}` is no container's name", name.escape_debug())));
    }
}

/// An image that becomes part of something: by a tag it may be another one tomorrow.
pub(crate) fn image(at: impl Into<Cow<'static, str>>, written: &str, facts: &Facts, demands: &mut Demands) {
    let (at, demand) = (at.into(), image_use(written, facts));
    if let Demand::Image(ImageUse { written, owner, .. }) = &demand {
        // By what was written, and not by what is there: whether there is an image of that name is not said.
        let hex = written.strip_prefix("sha256:").unwrap_or(written);
        let by_id = hex.len() == 64 && hex.bytes().all(is_hex);
        let pinned = by_id || ImageReference::parse(written).is_ok_and(|name| name.digest().is_some());
        if !pinned && *owner != Owner::Own {
            demands.push(at.clone(), Demand::Flag(Flag::MutableTag));
        }
    }
    demands.push(at, demand);
}

/// An image, by any of its spellings. By id it may be granted under any of the names that the engine has for it.
fn image_use(written: &str, facts: &Facts) -> Demand {
    let object = facts.object(ObjectKind::Image, written);
    let parsed = ImageReference::parse(written);
    let by_name = match (&object, &parsed) {
        (Some(object), Ok(reference)) => crate::request::has_name(object, reference),
        (None, Ok(_)) => true,
        (_, Err(_)) => false,
    };
    let names = match (parsed, object) {
        (Ok(reference), _) if by_name => vec![reference],
        (_, Some(object)) => object.references.iter().filter_map(|name| ImageReference::parse(name).ok()).collect(),
        _ => Vec::new(),
    };
    if names.is_empty() && object.is_none() && !written.trim_start_matches("sha256:").bytes().all(is_hex) {
        return Demand::NotUnderstood(format!("`{}` is no image", written.escape_debug()));
    }
    let asked = object.map_or(written, |object| object.asked.as_str());
    Demand::Image(ImageUse { written: asked.to_owned(), names, owner: object.map_or(Owner::Nobody, |object| object.owner) })
}

/// A container that something else uses.
fn used_container(at: &'static str, role: Role, name: &str, facts: &Facts, demands: &mut Demands) {
    let object = match facts.object(ObjectKind::Container, name) {
        Some(object) => UsedObject::Known(object.clone()),
        None => UsedObject::Missing(ObjectKind::Container, name.to_owned()),
    };
    if let (Role::VolumesFrom, UsedObject::Known(donor)) = (role, &object) {
        // What one client of a tenant may mount, another may not.
        donor.binds.iter().for_each(|bind| host_path(at, bind.clone(), facts, demands));
    }
    demands.push(at, Demand::Use(role, object));
}

/// A path of the host in a container. Whether links are in it is the host's to say.
pub(crate) fn host_path(at: &'static str, bind: Bind, facts: &Facts, demands: &mut Demands) {
    if facts.is_unseen(&bind.source) {
        demands.push(at, Demand::NotUnderstood(format!("{}, which does not answer: its filesystem may be dead", bind.source)));
    }
    demands.push(at, Demand::Bind(Bind { plain: facts.is_plain(&bind.source), ..bind }));
}

/// A network that a container is attached to.
fn used_network(at: &'static str, name: &str, facts: &Facts, demands: &mut Demands) {
    let name = if matches!(name, "" | "default") { "bridge" } else { name };
    if name == "host" {
        demands.push(at, Demand::Flag(Flag::HostNetwork));
        return;
    }
    let object = match facts.object(ObjectKind::Network, name) {
        Some(object) => UsedObject::Known(object.clone()),
        None => match predefined_network(ObjectKind::Network, name) {
            Some(object) => UsedObject::Known(object),
            None => UsedObject::Missing(ObjectKind::Network, name.to_owned()),
        },
    };
    demands.push(at, Demand::Use(Role::AttachNetwork, object));
}

/// A volume that is mounted by its name, and made when there is none.
fn used_volume(at: &'static str, name: &str, facts: &Facts, demands: &mut Demands) {
    let object = match facts.object(ObjectKind::Volume, name) {
        Some(object) => UsedObject::Known(object.clone()),
        None if is_object_name(name) && name.len() > 1 => UsedObject::New(ObjectKind::Volume, name.to_owned()),
        None => {
            demands.push(at, Demand::NotUnderstood(format!("`{}` is no volume's name", name.escape_debug())));
            return;
        }
    };
    demands.push(at, Demand::Use(Role::MountVolume, object));
}

/// Labels are the client's own, but for the one that says whose an object is.
fn labels<V>(at: &'static str, labels: Option<&Map<'_, V>>, demands: &mut Demands) {
    let reserved = labels.into_iter().flat_map(|labels| labels.keys()).find(|key| key.to_ascii_lowercase().starts_with(RESERVED_LABELS));
    if let Some(key) = reserved {
        demands.push(at, Demand::NotUnderstood(format!("the label `{key}` says whose an object is; it is set for you")));
    }
}

const RESERVED_LABELS: &str = "seawall.";
const _: () = assert!(OWNER_LABEL.len() > RESERVED_LABELS.len());

pub(crate) fn working_dir(at: impl Into<Cow<'static, str>>, path: &str, demands: &mut Demands) {
    match clean_path(path) {
        Some(clean) => demands.flag(at, Flag::SystemWorkingDir, clean != "/" && is_system_path(&clean)),
        None if path.is_empty() => {}
        None => demands.push(at, Demand::NotUnderstood("a working directory that is not an absolute path".to_owned())),
    }
}

/// The user of a process: root in its own namespace by any of its spellings, or by not naming another one.
fn user(at: &'static str, user: &str, demands: &mut Demands) {
    let name = user.split(':').next().unwrap_or_default();
    let zero = |text: &str| !text.is_empty() && text.bytes().all(|b| b == b'0');
    if user.chars().any(|c| c.is_control() || c.is_whitespace()) {
        demands.push(at, Demand::NotUnderstood(format!("`{}` is no user", user.escape_debug())));
        return;
    }
    // A name is looked up in the image's own passwd, which may call anyone root.
    let numeric = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    demands.flag(at, Flag::RootUser, !numeric || zero(name));
}

fn exec_create(body: &ExecCreate<'_>, demands: &mut Demands) {
    let ExecCreate {
        user: exec_user,
        privileged,
        tty: _,
        console_size: _,
        attach_stdin: _,
        attach_stderr: _,
        attach_stdout: _,
        detach_keys: _,
        env: _,
        working_dir: directory,
        cmd: _,
        detach: _,
        container: _,
        container_id: _,
    } = body;
    process(["Privileged", "User"], *privileged == Some(true), exec_user.as_deref().unwrap_or_default(), demands);
    working_dir("WorkingDir", directory.as_deref().unwrap_or_default(), demands);
}

/// An exec may have been made before the policy changed: it is judged again, as the engine has it.
fn exec_start(id: &str, facts: &Facts, demands: &mut Demands) {
    let Some(object) = facts.object(ObjectKind::Exec, id) else { return };
    let Process { privileged, user } = &object.process;
    process(["ProcessConfig.privileged", "ProcessConfig.user"], *privileged, user, demands);
}

fn process([at_privileged, at_user]: [&'static str; 2], privileged: bool, process_user: &str, demands: &mut Demands) {
    demands.flag(at_privileged, Flag::Privileged, privileged);
    // Without a user it is the container's, which was judged when the container was made.
    if !process_user.is_empty() {
        user(at_user, process_user, demands);
    }
}

fn volume_create(body: &VolumeCreate<'_>, facts: &Facts, demands: &mut Demands) {
    let VolumeCreate { name, driver, driver_opts, labels: given, cluster_volume_spec } = body;
    let name = name.as_deref().unwrap_or_default();
    match facts.object(ObjectKind::Volume, name) {
        // "201" would be the engine's answer, and the volume somebody else's all the same.
        Some(object) if object.owner != Owner::Own => demands.push("Name", Demand::Taken(ObjectKind::Volume, name.to_owned())),
        _ if name.is_empty() => {}
        _ => used_volume("Name", name, facts, demands),
    }
    if looks_like_id(name) && facts.object(ObjectKind::Volume, name).is_none() {
        demands.push("Name", Demand::NotUnderstood(format!("the name `{name}` could be read as an id")));
    }
    volume_driver("Driver", "DriverOpts", driver.as_ref(), driver_opts.as_ref(), demands);
    labels("Labels", given.as_ref(), demands);
    if cluster_volume_spec.is_some() {
        demands.push("ClusterVolumeSpec", Demand::NotUnderstood("a swarm volume".to_owned()));
    }
}

fn volume_driver(at: &'static str, at_options: &'static str, driver: Option<&Text<'_>>, options: Option<&Map<'_, Text<'_>>>, demands: &mut Demands) {
    let driver = driver.map_or("", |driver| driver.as_str());
    if driver != "local" {
        demands.named(at, Name::VolumeDriver, driver);
    }
    for (key, value) in options.into_iter().flat_map(|options| options.iter()) {
        demands.push(at_options, Demand::Named(Name::VolumeOption, format!("{key}={value}")));
    }
}
