//! The table itself.

use super::{Answer, BodyKind, Effect, Family, Operation};
use crate::query::{Kind, Param};
use crate::version::Version;

macro_rules! operations {
    ($($id:ident: $method:ident $path:literal $since:literal..=$until:literal $family:ident $effect:ident $body:ident $answer:ident {$($key:literal: $kind:ident,)*})*) => {
        /// The name of an operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum OperationId {
            $(#[doc = concat!("`", stringify!($method), " ", $path, "`, API 1.", $since, " to 1.", $until, ".")] $id,)*
        }

        impl OperationId {
            /// As policies and audit records write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$id => stringify!($id),)* }
            }

            /// Finds an operation by its name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($id) => Some(Self::$id),)* _ => None }
            }
        }

        /// Every operation. Literal paths stand before templates that would take them too.
        pub const OPERATIONS: &[Operation] = &[$(Operation {
            id: OperationId::$id,
            method: stringify!($method),
            path: $path,
            since: Version::table($since),
            until: Version::table($until),
            family: Family::$family,
            effect: Effect::$effect,
            query: &[$(Param { key: $key, kind: Kind::$kind },)*],
            body: BodyKind::$body,
            answer: Answer::$answer,
        },)*];
    };
}

operations! {
    // system: daemon/server/router/system/system_routes.go, grpc, session, debug
    SystemPing: GET "/_ping" 24..=55 System Read None Plain {}
    SystemPingHead: HEAD "/_ping" 24..=55 System Read None Plain {}
    SystemVersion: GET "/version" 24..=55 System Read None Plain {}
    SystemInfo: GET "/info" 24..=55 System Read None Plain {}
    SystemEvents: GET "/events" 24..=55 System Read None Stream { "since": Text, "until": Text, "filters": Filters,}
    SystemDataUsage: GET "/system/df" 25..=55 System Administer Untyped Plain {}
    SystemAuth: POST "/auth" 24..=55 System Transfer Untyped Plain {}
    SystemDebugVars: GET "/debug/vars" 24..=55 System Administer Untyped Plain {}
    SystemDebugProfile: GET "/debug/pprof/{name...}" 24..=55 System Administer Untyped Stream {}
    Session: POST "/session" 31..=55 System Administer Untyped Tunnel {}
    Grpc: POST "/grpc" 39..=55 System Administer Untyped Tunnel {}
    // containers: container_routes.go
    ContainerList: GET "/containers/json" 24..=55 Container Read None Plain { "all": Flag, "limit": Int, "size": Flag, "filters": Filters, "since": Text, "before": Text,}
    ContainerCreate: POST "/containers/create" 24..=55 Container Create Json Plain { "name": Text, "platform": Text,}
    ContainerPrune: POST "/containers/prune" 25..=55 Container Delete None Plain { "filters": Filters,}
    ContainerInspect: GET "/containers/{id}/json" 24..=55 Container Read None Plain { "size": Flag,}
    ContainerTop: GET "/containers/{id}/top" 24..=55 Container Read None Plain { "ps_args": Text,}
    ContainerLogs: GET "/containers/{id}/logs" 24..=55 Container Read None Stream { "follow": Flag, "stdout": Flag, "stderr": Flag, "since": Text, "until": Text, "timestamps": Flag, "tail": Text, "details": Flag,}
    ContainerChanges: GET "/containers/{id}/changes" 24..=55 Container Transfer None Plain {}
    ContainerExport: GET "/containers/{id}/export" 24..=55 Container Transfer None Stream {}
    ContainerStats: GET "/containers/{id}/stats" 24..=55 Container Read None Stream { "stream": Flag, "one-shot": Flag,}
    ContainerResize: POST "/containers/{id}/resize" 24..=55 Container Control None Plain { "h": Int, "w": Int,}
    ContainerStart: POST "/containers/{id}/start" 24..=55 Container Control None Plain { "detachKeys": Text,}
    ContainerStop: POST "/containers/{id}/stop" 24..=55 Container Control None Stream { "t": Int, "signal": Text,}
    ContainerRestart: POST "/containers/{id}/restart" 24..=55 Container Control None Stream { "t": Int, "signal": Text,}
    ContainerKill: POST "/containers/{id}/kill" 24..=55 Container Control None Plain { "signal": Text,}
    ContainerUpdate: POST "/containers/{id}/update" 24..=55 Container Control Json Plain {}
    ContainerRename: POST "/containers/{id}/rename" 24..=55 Container Control None Plain { "name": Text,}
    ContainerPause: POST "/containers/{id}/pause" 24..=55 Container Control None Plain {}
    ContainerUnpause: POST "/containers/{id}/unpause" 24..=55 Container Control None Plain {}
    ContainerAttach: POST "/containers/{id}/attach" 24..=55 Container Enter None Tunnel { "logs": Flag, "stream": Flag, "stdin": Flag, "stdout": Flag, "stderr": Flag, "detachKeys": Text,}
    ContainerAttachWebsocket: GET "/containers/{id}/attach/ws" 24..=55 Container Enter Untyped Tunnel {}
    ContainerWait: POST "/containers/{id}/wait" 24..=55 Container Read None Stream { "condition": Text,}
    ContainerDelete: DELETE "/containers/{id}" 24..=55 Container Delete None Stream { "v": Flag, "force": Flag, "link": Flag,}
    ContainerArchive: GET "/containers/{id}/archive" 24..=55 Container Transfer None Stream { "path": Text,}
    ContainerArchiveInfo: HEAD "/containers/{id}/archive" 24..=55 Container Transfer None Plain { "path": Text,}
    PutContainerArchive: PUT "/containers/{id}/archive" 24..=55 Container Transfer Tar Stream { "path": Text, "noOverwriteDirNonDir": Flag, "copyUIDGID": Flag,}
    ContainerCopy: POST "/containers/{id}/copy" 24..=24 Container Transfer Untyped Plain {}
    ContainerExec: POST "/containers/{id}/exec" 24..=55 Container Enter Json Plain {}
    ExecStart: POST "/exec/{id}/start" 24..=55 Container Enter Json Tunnel {}
    ExecResize: POST "/exec/{id}/resize" 24..=55 Container Enter None Plain { "h": Int, "w": Int,}
    ExecInspect: GET "/exec/{id}/json" 24..=55 Container Read None Plain {}
    CheckpointList: GET "/containers/{id}/checkpoints" 25..=55 Container Administer Untyped Plain {}
    CheckpointCreate: POST "/containers/{id}/checkpoints" 25..=55 Container Administer Untyped Plain {}
    CheckpointDelete: DELETE "/containers/{id}/checkpoints/{checkpoint}" 25..=55 Container Administer Untyped Plain {}
    // images and builds: image_routes.go, build_routes.go, distribution
    ImageList: GET "/images/json" 24..=55 Image Read None Plain { "all": Flag, "filters": Filters, "shared-size": Flag, "digests": Flag, "manifests": Flag, "identity": Flag,}
    ImageCreate: POST "/images/create" 24..=55 Image Create None Stream { "fromImage": Text, "tag": Text, "platform": Text, "fromSrc": Text, "repo": Text, "message": Text, "changes": Texts,}
    ImagePrune: POST "/images/prune" 25..=55 Image Delete None Plain { "filters": Filters,}
    ImageSearch: GET "/images/search" 24..=55 Image Transfer Untyped Plain {}
    ImageGetAll: GET "/images/get" 24..=55 Image Transfer Untyped Stream {}
    ImageLoad: POST "/images/load" 24..=55 Image Transfer Untyped Stream {}
    ImageInspect: GET "/images/{name...}/json" 24..=55 Image Read None Plain { "manifests": Flag, "platform": Text,}
    ImageHistory: GET "/images/{name...}/history" 24..=55 Image Read None Plain { "platform": Text,}
    ImageAttestations: GET "/images/{name...}/attestations" 55..=55 Image Read Untyped Plain {}
    ImageGet: GET "/images/{name...}/get" 24..=55 Image Transfer Untyped Stream {}
    ImageTag: POST "/images/{name...}/tag" 24..=55 Image Create None Plain { "repo": Text, "tag": Text,}
    ImagePush: POST "/images/{name...}/push" 24..=55 Image Transfer Untyped Stream {}
    ImageDelete: DELETE "/images/{name...}" 24..=55 Image Delete None Plain { "force": Flag, "noprune": Flag, "platforms": Texts,}
    ImageCommit: POST "/commit" 24..=55 Image Transfer Untyped Plain {}
    ImageBuild: POST "/build" 24..=55 Image Create Tar Stream { "t": Texts, "dockerfile": Text, "remote": Text, "q": Flag, "nocache": Flag, "rm": Flag, "forcerm": Flag, "pull": Text, "cachefrom": List, "extrahosts": Texts, "networkmode": Text, "labels": Pairs, "buildargs": Pairs, "target": Text, "platform": Text, "squash": Flag, "shmsize": Int, "memory": Int, "memswap": Int, "cpushares": Int, "cpuperiod": Int, "cpuquota": Int, "cpusetcpus": Text, "cpusetmems": Text, "cgroupparent": Text, "ulimits": Ulimits, "securityopt": List, "isolation": Text, "version": Text, "session": Text, "buildid": Text, "outputs": Text,}
    BuildPrune: POST "/build/prune" 31..=55 Image Administer Untyped Plain {}
    BuildCancel: POST "/build/cancel" 39..=55 Image Administer Untyped Plain {}
    DistributionInspect: GET "/distribution/{name...}/json" 30..=55 Image Transfer Untyped Plain {}
    // networks: network_routes.go
    NetworkList: GET "/networks" 24..=55 Network Read None Plain { "filters": Filters,}
    NetworkCreate: POST "/networks/create" 24..=55 Network Create Json Plain {}
    NetworkPrune: POST "/networks/prune" 25..=55 Network Delete None Plain { "filters": Filters,}
    NetworkInspect: GET "/networks/{id}" 24..=55 Network Read None Plain { "verbose": Flag, "scope": Text,}
    NetworkConnect: POST "/networks/{id}/connect" 24..=55 Network Control Json Plain {}
    NetworkDisconnect: POST "/networks/{id}/disconnect" 24..=55 Network Control Json Plain {}
    NetworkDelete: DELETE "/networks/{id}" 24..=55 Network Delete None Plain {}
    // volumes: volume_routes.go
    VolumeList: GET "/volumes" 24..=55 Volume Read None Plain { "filters": Filters,}
    VolumeCreate: POST "/volumes/create" 24..=55 Volume Create Json Plain {}
    VolumePrune: POST "/volumes/prune" 25..=55 Volume Delete None Plain { "filters": Filters,}
    VolumeInspect: GET "/volumes/{name}" 24..=55 Volume Read None Plain {}
    VolumeUpdate: PUT "/volumes/{name}" 42..=55 Volume Administer Untyped Plain {}
    VolumeDelete: DELETE "/volumes/{name}" 24..=55 Volume Delete None Plain { "force": Flag,}
    // plugins: plugin_routes.go
    PluginList: GET "/plugins" 25..=55 Plugin Administer Untyped Plain {}
    PluginPrivileges: GET "/plugins/privileges" 25..=55 Plugin Administer Untyped Plain {}
    PluginPull: POST "/plugins/pull" 25..=55 Plugin Administer Untyped Stream {}
    PluginCreate: POST "/plugins/create" 25..=55 Plugin Administer Untyped Plain {}
    PluginInspect: GET "/plugins/{name...}/json" 25..=55 Plugin Administer Untyped Plain {}
    PluginEnable: POST "/plugins/{name...}/enable" 25..=55 Plugin Administer Untyped Plain {}
    PluginDisable: POST "/plugins/{name...}/disable" 25..=55 Plugin Administer Untyped Plain {}
    PluginUpgrade: POST "/plugins/{name...}/upgrade" 26..=55 Plugin Administer Untyped Stream {}
    PluginPush: POST "/plugins/{name...}/push" 25..=55 Plugin Administer Untyped Stream {}
    PluginSet: POST "/plugins/{name...}/set" 25..=55 Plugin Administer Untyped Plain {}
    PluginDelete: DELETE "/plugins/{name...}" 25..=55 Plugin Administer Untyped Plain {}
    // swarm: cluster_routes.go
    SwarmInspect: GET "/swarm" 24..=55 Swarm Administer Untyped Plain {}
    SwarmInit: POST "/swarm/init" 24..=55 Swarm Administer Untyped Plain {}
    SwarmJoin: POST "/swarm/join" 24..=55 Swarm Administer Untyped Plain {}
    SwarmLeave: POST "/swarm/leave" 24..=55 Swarm Administer Untyped Plain {}
    SwarmUpdate: POST "/swarm/update" 24..=55 Swarm Administer Untyped Plain {}
    SwarmUnlockkey: GET "/swarm/unlockkey" 24..=55 Swarm Administer Untyped Plain {}
    SwarmUnlock: POST "/swarm/unlock" 24..=55 Swarm Administer Untyped Plain {}
    ServiceList: GET "/services" 24..=55 Swarm Administer Untyped Plain {}
    ServiceCreate: POST "/services/create" 24..=55 Swarm Administer Untyped Plain {}
    ServiceInspect: GET "/services/{id}" 24..=55 Swarm Administer Untyped Plain {}
    ServiceUpdate: POST "/services/{id}/update" 24..=55 Swarm Administer Untyped Plain {}
    ServiceDelete: DELETE "/services/{id}" 24..=55 Swarm Administer Untyped Plain {}
    ServiceLogs: GET "/services/{id}/logs" 25..=55 Swarm Administer Untyped Stream {}
    TaskList: GET "/tasks" 24..=55 Swarm Administer Untyped Plain {}
    TaskInspect: GET "/tasks/{id}" 24..=55 Swarm Administer Untyped Plain {}
    TaskLogs: GET "/tasks/{id}/logs" 29..=55 Swarm Administer Untyped Stream {}
    NodeList: GET "/nodes" 24..=55 Swarm Administer Untyped Plain {}
    NodeInspect: GET "/nodes/{id}" 24..=55 Swarm Administer Untyped Plain {}
    NodeUpdate: POST "/nodes/{id}/update" 24..=55 Swarm Administer Untyped Plain {}
    NodeDelete: DELETE "/nodes/{id}" 24..=55 Swarm Administer Untyped Plain {}
    SecretList: GET "/secrets" 25..=55 Swarm Administer Untyped Plain {}
    SecretCreate: POST "/secrets/create" 25..=55 Swarm Administer Untyped Plain {}
    SecretInspect: GET "/secrets/{id}" 25..=55 Swarm Administer Untyped Plain {}
    SecretUpdate: POST "/secrets/{id}/update" 25..=55 Swarm Administer Untyped Plain {}
    SecretDelete: DELETE "/secrets/{id}" 25..=55 Swarm Administer Untyped Plain {}
    ConfigList: GET "/configs" 30..=55 Swarm Administer Untyped Plain {}
    ConfigCreate: POST "/configs/create" 30..=55 Swarm Administer Untyped Plain {}
    ConfigInspect: GET "/configs/{id}" 30..=55 Swarm Administer Untyped Plain {}
    ConfigUpdate: POST "/configs/{id}/update" 30..=55 Swarm Administer Untyped Plain {}
    ConfigDelete: DELETE "/configs/{id}" 30..=55 Swarm Administer Untyped Plain {}
}
