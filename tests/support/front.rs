//! A proxy in front of the corpus' plausible engine, of which a test plays some parts itself.

use std::sync::Arc;

use crate::proxy::{CORPUS_POLICY, Seawall};
use crate::record::Request;
use crate::scratch::Scratch;
use crate::stub::{Reply, Stub};
use crate::world::World;

/// What a test answers itself; nothing leaves the request to the plausible engine.
pub type Part = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// The proxy, and the stub behind it. The client on the unix socket is the tenant `job`, the owner of the corpus' own objects.
#[derive(Debug)]
pub struct Front {
    /// The proxy.
    pub proxy: Seawall,
    /// The engine; a test may take it away.
    pub stub: Option<Stub>,
    /// The engine's objects.
    pub world: World,
    home: Scratch,
}

impl Front {
    /// Starts both. `part` is what the test answers itself.
    #[must_use]
    pub fn new(part: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::listening("", |_| false, part)
    }

    /// [`Front::new`] with these limits.
    #[must_use]
    pub fn limited(limits: &str, part: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::configured("", limits, |_| false, part)
    }

    /// [`Front::new`] with further lines of `listen:`, and requests whose bodies are left to the test.
    #[must_use]
    pub fn listening(listeners: &str, leaves_body: fn(&Request) -> bool, part: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::configured(listeners, "", leaves_body, part)
    }

    fn configured(
        listeners: &str,
        limits: &str,
        leaves_body: fn(&Request) -> bool,
        part: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let home = Scratch::new("front");
        let world = World::with_fixtures("job");
        let policy = home.write("policy.yaml", CORPUS_POLICY);
        let answering = world.clone();
        let stub =
            Stub::start_streaming(&home.join("engine.sock"), leaves_body, move |request| part(request).unwrap_or_else(|| answering.answer(request)));
        let proxy = Seawall::configured(&format!(
            "engine: {engine}\nlisten:\n  - unix://${{HOME}}/docker.sock\n{listeners}clients:\n  - name: job\n    match: {{ uid: 0 }}\n    \
             policy: {policy}\n    tenant: job\n  - name: remote\n    match: {{ uri: \"seawall:client/*\" }}\n    policy: {policy}\n    tenant: job\nlimits: {{ {limits} }}\n",
            engine = stub.address(),
            policy = policy.display(),
        ));
        Self { proxy, stub: Some(stub), world, home }
    }

    /// The engine.
    #[must_use]
    pub fn stub(&self) -> &Stub {
        self.stub.as_ref().unwrap()
    }

    /// Takes the engine away: its socket is gone.
    pub fn stop_engine(&mut self) {
        self.stub = None;
    }

    /// Another engine at the same path.
    pub fn start_engine(&mut self) {
        let world = self.world.clone();
        self.stub = Some(Stub::start(&self.home.join("engine.sock"), move |request| world.answer(request)));
    }
}
