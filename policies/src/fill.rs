//! Filling: what a request leaves unset gets a value of the policy, before it is judged, so that unchanged clients run hardened.

use engine::demand::Flag;
use engine::operation::OperationId;
use engine::query::Value;
use engine::request::Body;
use engine::types::container::ContainerCreate;
use engine::types::strings::SecurityOption;
use engine::wire::{Map, Text};
use engine::{OWNER_LABEL, Request};

use crate::compile::Policy;

impl Policy {
    /// Sets what the request leaves unset.
    pub fn fill(&self, request: &mut Request<'_>) {
        match &mut request.body {
            Body::ContainerCreate(body) => self.fill_container(body),
            Body::NetworkCreate(body) => self.fill_labels(&mut body.labels),
            Body::VolumeCreate(body) => self.fill_labels(&mut body.labels),
            // The engine's build cache is everybody's, and does not look at how a step was run: another tenant's `--add-host` would decide what
            // this one's `RUN curl` had fetched.
            Body::Tar if request.operation.id == OperationId::ImageBuild && !self.allow.contains(&Flag::SharedBuildCache) => {
                request.query.set("nocache", Value::Flag(true));
            }
            Body::ContainerUpdate(_)
            | Body::ExecCreate(_)
            | Body::ExecStart(_)
            | Body::NetworkConnect(_)
            | Body::NetworkDisconnect(_)
            | Body::None
            | Body::Tar => {}
        }
    }

    fn fill_labels(&self, labels: &mut Option<Map<'_, Text<'_>>>) {
        for (key, value) in self.fill.labels.iter().filter(|(key, _)| *key != OWNER_LABEL) {
            labels.get_or_insert_with(Map::default).entry(Text::from(key.clone())).or_insert_with(|| Text::from(value.clone()));
        }
    }

    fn fill_container(&self, body: &mut ContainerCreate<'_>) {
        let fill = &self.fill;
        self.fill_labels(&mut body.labels);
        if let Some(user) = fill.user.as_ref().filter(|_| body.user.as_ref().is_none_or(|user| user.is_empty())) {
            body.user = Some(Text::from(user.clone()));
        }
        let host = body.host_config.get_or_insert_default();
        let unset = |value: Option<i64>| value.is_none_or(|value| value == 0);
        let amount = |amount: Option<u64>| amount.and_then(|amount| i64::try_from(amount).ok());
        if unset(host.memory) {
            host.memory = amount(fill.memory).or(host.memory);
        }
        if unset(host.pids_limit) {
            host.pids_limit = amount(fill.pids).or(host.pids_limit);
        }
        if unset(host.nano_cpus) && unset(host.cpu_quota) {
            host.nano_cpus = amount(fill.cpus).or(host.nano_cpus);
        }
        if fill.readonly_rootfs {
            host.readonly_rootfs.get_or_insert(true);
            // The CLI writes `false` where nobody asked for anything.
            host.readonly_rootfs = Some(true);
        }
        let options = host.security_opt.get_or_insert_default();
        if fill.no_new_privileges && !options.iter().any(|option| matches!(option, SecurityOption::NoNewPrivileges(_))) {
            options.push(SecurityOption::NoNewPrivileges(true));
        }
        if options.is_empty() {
            host.security_opt = None;
        }
        let added: Vec<String> = host.cap_add.iter().flatten().map(|name| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned()).collect();
        let drop: Vec<Text<'_>> = fill.cap_drop.iter().filter(|name| !added.contains(name)).map(|name| Text::from(name.clone())).collect();
        if !drop.is_empty() {
            let dropped = host.cap_drop.get_or_insert_default();
            drop.into_iter().for_each(|name| {
                if !dropped.contains(&name) {
                    dropped.push(name)
                }
            });
        }
    }
}
