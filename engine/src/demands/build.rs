//! A classic build: what its query asks for. What its Dockerfile asks for is found while the context streams by.

use super::container::DEFAULT_CAPABILITIES;
use super::resources::{cpus, given, limit, swap, ulimit};
use super::{labels, used_container, used_network};
use crate::demand::{Demand, Demands, Flag, Name, Quantity, Role, TagUse};
use crate::facts::{Facts, ObjectKind};
use crate::query::{Query, QueryUlimit, Value};
use crate::reference::ImageReference;
use crate::types::strings::{ExtraHost, NetworkMode, SecurityOption, looks_like_image_id};
use crate::wire::{Map, Text};

/// Takes every key of the query in turn.
pub(super) fn build(query: &Query<'_>, facts: &Facts, demands: &mut Demands) {
    for (key, value) in query.iter() {
        match (key, value) {
            ("t", Value::Texts(tags)) => tags.iter().for_each(|name| tag("t", name, facts, demands)),
            ("remote", Value::Text(url)) => demands.flag("remote", Flag::RemoteContext, !url.is_empty()),
            ("version", Value::Text(version)) => demands.flag("version", Flag::BuildKit, !matches!(version.as_str(), "" | "1")),
            ("session" | "buildid" | "outputs", Value::Text(text)) => demands.flag("session", Flag::BuildKit, !text.is_empty()),
            ("networkmode", Value::Text(mode)) => network(mode, facts, demands),
            ("cgroupparent", Value::Text(parent)) => demands.named("cgroupparent", Name::CgroupParent, parent),
            ("cachefrom", Value::List(images)) => images.iter().for_each(|image| super::image("cachefrom", image, facts, demands)),
            ("extrahosts", Value::Texts(hosts)) => hosts.iter().for_each(|host| extra_host(host, demands)),
            ("securityopt", Value::List(options)) => options.iter().for_each(|option| security_option(option, demands)),
            ("labels", Value::Pairs(pairs)) => {
                let map = Map(pairs.keys().map(|key| (Text::from(key.as_str()), ())).collect());
                labels("labels", Some(&map), demands);
            }
            ("buildargs", Value::Pairs(args)) => {
                demands.flag("buildargs", Flag::BuildKit, args.keys().any(|name| name.to_ascii_uppercase().starts_with("BUILDKIT_")));
            }
            ("ulimits", Value::Ulimits(list)) => {
                list.iter().for_each(|QueryUlimit { name, hard, soft }| ulimit("ulimits", name, [*soft, *hard], demands));
            }
            ("isolation", Value::Text(text)) if !text.is_empty() => {
                demands.push("isolation", Demand::NotUnderstood("an isolation of Windows engines".to_owned()));
            }
            ("dockerfile", Value::Text(path)) if path.starts_with('/') || path.split('/').any(|part| part == "..") => {
                demands.push("dockerfile", Demand::NotUnderstood("a Dockerfile outside of the context".to_owned()));
            }
            // Limits, which come below, how much of a build is told, and what is cleaned up after it.
            (_, _) => {}
        }
    }
    // Without one the steps of a build run on the default bridge.
    if query.get("networkmode").is_none() {
        network("", facts, demands);
    }
    steps(query, demands);
}

/// What the containers of its steps are: root's, with the default capabilities, on a writable filesystem, and with the limits of the query. There is none
/// for processes (moby daemon/builder/dockerfile, `hostConfigFromOptions`).
fn steps(query: &Query<'_>, demands: &mut Demands) {
    const AT: &str = "a build's steps";
    for flag in [Flag::RootUser, Flag::NewPrivileges, Flag::WritableRootfs] {
        demands.flag(AT, flag, true);
    }
    DEFAULT_CAPABILITIES.iter().for_each(|name| demands.named(AT, Name::Capability, name));
    limit("memory", Quantity::Memory, query.int("memory"), demands);
    swap("memswap", query.int("memswap"), query.int("memory"), demands);
    cpus("cpuquota", None, query.int("cpuperiod"), query.int("cpuquota"), demands);
    limit(AT, Quantity::Pids, None, demands);
    if let Some(bytes) = given(query.int("shmsize")) {
        limit("shmsize", Quantity::Shm, Some(bytes), demands);
    }
}

/// A name that an image gets.
pub(super) fn tag(at: &'static str, name: &str, facts: &Facts, demands: &mut Demands) {
    match ImageReference::parse(name) {
        // Engines look for a name before they look for an id that begins so: it would stand before somebody's image.
        Ok(reference) if reference.bare_name().is_some_and(looks_like_image_id) => {
            demands.push(at, Demand::NotUnderstood(format!("the name `{}` could be read as an id", reference.repository())));
        }
        Ok(reference) if reference.digest().is_none() => {
            let taken = facts.object(ObjectKind::Image, &reference.to_string()).map(|object| object.owner);
            demands.push(at, Demand::Tag(TagUse { name: reference, taken }));
        }
        Ok(_) => demands.push(at, Demand::NotUnderstood("a tag with a digest".to_owned())),
        Err(why) => demands.push(at, Demand::NotUnderstood(why)),
    }
}

fn network(mode: &str, facts: &Facts, demands: &mut Demands) {
    match NetworkMode::parse(mode) {
        Ok(NetworkMode::Host) => demands.flag("networkmode", Flag::HostNetwork, true),
        Ok(NetworkMode::Container(container)) => {
            used_container("networkmode", Role::JoinNetwork, container.as_str(), facts, demands);
            // Over an abstract socket a step hands on its open directories; what it has written is committed by path after it (moby pkg/archive).
            demands.flag("networkmode", Flag::RacyCopy, true);
        }
        Ok(NetworkMode::Network(name)) => used_network("networkmode", &name, facts, demands),
        Ok(NetworkMode::None) => used_network("networkmode", "none", facts, demands),
        Ok(NetworkMode::Default) => used_network("networkmode", "default", facts, demands),
        Err(why) => demands.push("networkmode", Demand::NotUnderstood(why)),
    }
}

fn extra_host(host: &str, demands: &mut Demands) {
    match ExtraHost::parse(host) {
        Ok(ExtraHost { address: None, .. }) => demands.flag("extrahosts", Flag::HostGateway, true),
        Ok(ExtraHost { address: Some(address), .. }) => demands.push("extrahosts", Demand::Named(Name::ExtraHost, address.to_string())),
        Err(why) => demands.push("extrahosts", Demand::NotUnderstood(why)),
    }
}

fn security_option(option: &str, demands: &mut Demands) {
    match SecurityOption::parse(option) {
        Ok(option) => super::container::security_option("securityopt", &option, demands),
        Err(why) => demands.push("securityopt", Demand::NotUnderstood(why)),
    }
}
