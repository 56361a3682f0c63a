//! `POST /volumes/create`: api/swagger.yaml, `VolumeCreateOptions`.

use crate::wire::{Empty, Map, Text, body};

body! {
    /// A volume to make. An existing one of that name is answered as if it had been made, whoever it belongs to.
    pub struct VolumeCreate<'a> {
        /// Its name; empty: the engine chooses.
        name: Text<'a> = "Name",
        /// The driver.
        driver: Text<'a> = "Driver",
        /// Its options. Those of `local` mount any host path.
        driver_opts: Map<'a, Text<'a>> = "DriverOpts",
        /// Labels.
        labels: Map<'a, Text<'a>> = "Labels",
        /// A swarm volume (1.42); engines below make a local one.
        cluster_volume_spec: Empty = "ClusterVolumeSpec",
    }
}
