//! Limits: memory, CPUs, processes, and everything beside them in `Resources`.

use std::borrow::Cow;

use crate::demand::{Amount, Demand, Demands, Flag, Name, Quantity};
use crate::types::container::{ContainerUpdate, Device, DeviceRequest, RestartPolicy, ThrottleDevice, WeightDevice};
use crate::wire::Text;

/// What a new limit of a container demands. A limit that is not named stays as it is, and so does one that is zero, but for `PidsLimit`, which is
/// then lifted (moby daemon/container_unix.go, `UpdateContainer`; api/server/router/container, `postContainerUpdate`).
pub(super) fn update(body: &ContainerUpdate<'_>, demands: &mut Demands) {
    let ContainerUpdate {
        restart_policy,
        cpu_shares: _,
        memory,
        nano_cpus,
        cgroup_parent,
        blkio_weight: _,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus: _,
        cpuset_mems: _,
        devices: given_devices,
        device_cgroup_rules: rules,
        device_requests: requests,
        disk_quota: _,
        kernel_memory: _,
        kernel_memory_tcp: _,
        memory_reservation: _,
        memory_swap,
        memory_swappiness: _,
        oom_kill_disable,
        pids_limit,
        ulimits,
        cpu_count: _,
        cpu_percent: _,
        io_maximum_iops: _,
        io_maximum_bandwidth: _,
    } = body;
    restart("RestartPolicy", restart_policy.as_ref(), demands);
    if let Some(bytes) = given(*memory) {
        limit("Memory", Quantity::Memory, Some(bytes), demands);
    }
    updated_cpus(*nano_cpus, *cpu_period, *cpu_quota, demands);
    if pids_limit.is_some() {
        limit("PidsLimit", Quantity::Pids, *pids_limit, demands);
    }
    // The engine derives swap from the memory at a create alone.
    swap("MemorySwap", *memory_swap, None, demands);
    demands.named("CgroupParent", Name::CgroupParent, cgroup_parent.as_deref().unwrap_or_default());
    demands.flag("OomKillDisable", Flag::OomProtection, *oom_kill_disable == Some(true));
    realtime("CpuRealtimeRuntime", *cpu_realtime_period, *cpu_realtime_runtime, demands);
    weights("BlkioWeightDevice", blkio_weight_device.as_deref(), demands);
    for list in [blkio_device_read_bps, blkio_device_write_bps, blkio_device_read_iops, blkio_device_write_iops] {
        throttles("BlkioDevice", list.as_deref(), demands);
    }
    devices("Devices", given_devices.as_deref(), demands);
    device_rules("DeviceCgroupRules", rules.as_deref(), demands);
    device_requests("DeviceRequests", requests.as_deref(), demands);
    if ulimits.as_ref().is_some_and(|list| !list.is_empty()) {
        demands.push("Ulimits", Demand::NotUnderstood("ulimits of a container that exists".to_owned()));
    }
}

/// Zero is what clients send where they set nothing.
pub(super) fn given(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

/// A limit; zero, less, and nothing mean: none.
pub(super) fn limit(at: impl Into<Cow<'static, str>>, quantity: Quantity, amount: Option<i64>, demands: &mut Demands) {
    let amount = amount.and_then(|amount| u64::try_from(amount).ok()).filter(|amount| *amount > 0);
    demands.push(at, Demand::Quantity(quantity, Amount(amount)));
}

/// CPUs, as billionths or as a quota of a period (100 ms where none is named). Both at once may be any number: the engine refuses them only where
/// both are positive, and a quota of -1 lifts what the billionths say.
pub(super) fn cpus(at: &'static str, nano: Option<i64>, period: Option<i64>, quota: Option<i64>, demands: &mut Demands) {
    let amount = match (given(nano), given(period), given(quota)) {
        (nano, None, None) => nano,
        (None, period, Some(quota)) if quota > 0 => {
            Some(quota.saturating_mul(1_000_000_000) / period.filter(|period| *period > 0).unwrap_or(100_000))
        }
        _ => None,
    };
    limit(at, Quantity::Cpus, amount, demands);
}

/// New CPUs of a container. Period and quota mean something together only, and the engine keeps the old one beside a new one: a period of 1 ms
/// beside a quota of 100 ms is 100 CPUs. What is kept may be changed by another request meanwhile, so that one alone may be any number.
fn updated_cpus(nano: Option<i64>, period: Option<i64>, quota: Option<i64>, demands: &mut Demands) {
    match (given(nano), given(period), given(quota)) {
        (None, None, None) => {}
        (None, Some(_), None) => limit("CpuPeriod (without CpuQuota)", Quantity::Cpus, None, demands),
        (None, None, Some(_)) => limit("CpuQuota (without CpuPeriod)", Quantity::Cpus, None, demands),
        (nano, period, quota) => cpus("NanoCpus", nano, period, quota, demands),
    }
}

/// Swap: where none is named, the engine's own default, twice the memory that it is to be derived from (moby daemon/daemon_unix.go,
/// `adaptContainerSettings`).
pub(super) fn swap(at: &'static str, swap: Option<i64>, memory: Option<i64>, demands: &mut Demands) {
    let default = memory.filter(|memory| *memory > 0).map(|memory| memory.saturating_mul(2));
    if let Some(swap) = given(swap).or(default) {
        limit(at, Quantity::Swap, Some(swap), demands);
    }
}

/// A limit of processes, soft and hard. Most are between the container and its own limits: what it locks in memory and its files count as its memory,
/// its niceness among its own processes. A real-time priority is one of the whole host's (sched(7)).
pub(super) fn ulimit(at: &'static str, name: &str, values: [i64; 2], demands: &mut Demands) {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase()) {
        demands.push(at, Demand::NotUnderstood(format!("ulimit `{}`", name.escape_debug())));
    }
    demands.flag(at, Flag::RealtimeCpu, name == "rtprio" && values != [0, 0]);
}

pub(super) fn realtime(at: &'static str, period: Option<i64>, runtime: Option<i64>, demands: &mut Demands) {
    demands.flag(at, Flag::RealtimeCpu, given(period).is_some() || given(runtime).is_some());
}

pub(super) fn weights(at: &'static str, list: Option<&[WeightDevice<'_>]>, demands: &mut Demands) {
    demands.flag(at, Flag::DeviceThrottle, list.is_some_and(|list| !list.is_empty()));
}

pub(super) fn throttles(at: &'static str, list: Option<&[ThrottleDevice<'_>]>, demands: &mut Demands) {
    demands.flag(at, Flag::DeviceThrottle, list.is_some_and(|list| !list.is_empty()));
}

pub(super) fn devices(at: &'static str, list: Option<&[Device<'_>]>, demands: &mut Demands) {
    for Device { path_on_host, path_in_container: _, cgroup_permissions } in list.unwrap_or_default() {
        let path = crate::types::strings::clean_path(path_on_host.as_deref().unwrap_or_default()).unwrap_or_default();
        let access = cgroup_permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
        demands.push(at, Demand::Named(Name::Device, format!("{path}:{access}")));
    }
}

pub(super) fn device_rules(at: &'static str, list: Option<&[Text<'_>]>, demands: &mut Demands) {
    for rule in list.unwrap_or_default() {
        demands.push(at, Demand::Named(Name::DeviceRule, rule.to_string()));
    }
}

pub(super) fn device_requests(at: &'static str, list: Option<&[DeviceRequest<'_>]>, demands: &mut Demands) {
    for DeviceRequest { driver, count: _, device_ids: _, capabilities: _, options: _ } in list.unwrap_or_default() {
        let driver = driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or("default");
        demands.push(at, Demand::Named(Name::DeviceRequest, driver.to_owned()));
    }
}

pub(super) fn restart(at: &'static str, policy: Option<&RestartPolicy<'_>>, demands: &mut Demands) {
    let Some(RestartPolicy { name, maximum_retry_count: _ }) = policy else { return };
    match name.as_deref().unwrap_or_default() {
        "" | "no" => {}
        name @ ("always" | "on-failure" | "unless-stopped") => demands.named(at, Name::Restart, name),
        other => demands.push(at, Demand::NotUnderstood(format!("restart policy `{}`", other.escape_debug()))),
    }
}
