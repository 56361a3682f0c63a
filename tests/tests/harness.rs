//! The harness itself holds: an engine starts in its own namespaces, runs a container, and leaves nothing behind.

use tests::cli::Docker;
use tests::engine::Engine;
use tests::image;
use tests::packages::Suite;
use tests::registry::{ADDRESS, Registry};

#[test]
fn private_engines_run_containers_and_leave_nothing() {
    for (suite, version) in [(Suite::Bookworm, "20.10"), (Suite::Trixie, "26.1")] {
        let engine = Engine::start(suite);
        let found = engine.json("/version").unwrap()["Version"].as_str().unwrap().to_owned();
        assert!(found.starts_with(version), "{suite:?}: {found}");
        let image = image::import(&engine, "cifixture", "1", "good");
        let docker = Docker::at(&engine.address());
        assert_eq!(docker.ok(&["run", "--rm", "cifixture:1", "echo", "hello"]), "hello", "{suite:?}");
        let registry = Registry::start(&engine);
        registry.publish(&engine, &image, "team/app", "1");
        docker.ok(&["pull", &format!("{ADDRESS}/team/app:1")]);
        docker.ok(&["run", "--detach", "cifixture:1", "sleep", "100000"]);
        let traces = engine.traces();
        assert!(traces.iter().all(|trace| trace.exists()), "the engine is somewhere: {traces:?}");
        drop((registry, engine));
        assert_eq!(traces.iter().find(|trace| trace.exists()), None, "{suite:?}");
    }
}

#[test]
fn engine_of_a_test_that_panics_is_stopped() {
    let traces = std::thread::spawn(|| {
        let engine = Engine::start(Suite::Trixie);
        std::panic::panic_any(engine.traces());
    })
    .join()
    .expect_err("it panics");
    let traces = traces.downcast::<[std::path::PathBuf; 2]>().unwrap();
    assert_eq!(traces.iter().find(|trace| trace.exists()), None);
}
