//! A whole job of a CI client with the docker CLI: what people do with an engine, step by step.

use crate::cli::Docker;
use crate::scratch::Scratch;

/// The image that the job runs.
const IMAGE: &str = "cifixture:1";

/// Runs the job. `published` is an image in a registry; `mark` makes the job's names its own.
pub fn run(docker: &Docker, published: &str, mark: &str) {
    images(docker, published, mark);
    runs(docker);
    let worker = format!("{mark}-worker");
    let tick = "while :; do echo tick; sleep 0.2; done";
    docker.ok(&["run", "--detach", "--name", &worker, IMAGE, "sh", "-c", tick]);
    execs(docker, &worker);
    streams(docker, &worker, mark);
    copies(docker, &worker);
    observes(docker, &worker);
    networks(docker, &worker, mark);
    volumes(docker, mark);
    ends(docker, &worker);
}

fn images(docker: &Docker, published: &str, mark: &str) {
    let context = Scratch::new("context");
    context.write("Dockerfile", format!("FROM {IMAGE}\nARG WORD\nCOPY f /f\nRUN cat /f > /g && echo $WORD >> /g\nCMD [\"cat\", \"/g\"]\n"));
    context.write("f", "copied\n");
    let tag = format!("{mark}-app");
    docker.ok(&["build", "--build-arg", "WORD=given", "--tag", &tag, context.path().to_str().unwrap()]);
    assert_eq!(docker.ok(&["run", "--rm", &tag]), "copied\ngiven", "what was built runs");
    assert!(docker.ok(&["images", "--format", "{{.Repository}}"]).lines().any(|name| name == tag), "what was built is listed");
    assert!(docker.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", &tag]).contains("cat /f"));
    docker.ok(&["rmi", &tag]);
    docker.ok(&["pull", published]);
    assert_eq!(docker.ok(&["run", "--rm", published, "echo", "pulled"]), "pulled");
    assert!(docker.ok(&["image", "inspect", "--format", "{{.Id}}", published]).starts_with("sha256:"));
}

fn runs(docker: &Docker) {
    assert_eq!(docker.ok(&["run", "--rm", IMAGE, "echo", "hello"]), "hello");
    assert_eq!(docker.run(&["run", "--rm", IMAGE, "sh", "-c", "exit 7"]).code, 7, "the exit status is the container's");
    let noisy = docker.run(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((noisy.stdout.as_str(), noisy.stderr.as_str()), ("out\n", "err\n"), "the two streams stay two");
    let half = docker.with_input(&["run", "--rm", "--interactive", IMAGE, "sh", "-c", "cat; echo after"], b"abc\n");
    assert_eq!(half.stdout, "abc\nafter\n", "the end of standard input reaches the container, its output goes on: {}", half.stderr);
    let big = vec![b'x'; 20_000_000];
    let counted = docker.with_input(&["run", "--rm", "--interactive", IMAGE, "wc", "-c"], &big);
    assert_eq!(counted.stdout.trim(), "20000000", "{}", counted.stderr);
    let zeros = docker.run(&["run", "--rm", IMAGE, "head", "-c", "20000000", "/dev/zero"]);
    assert_eq!(zeros.stdout.len(), 20_000_000, "{}", zeros.stderr);
    let mut terminal = docker.spawn_on_pty(&["run", "--rm", "--interactive", "--tty", IMAGE, "sh"]);
    terminal.wait_for("#");
    terminal.write("echo sum $((40+2)); exit 4\n");
    terminal.wait_for("sum 42");
    assert_eq!(terminal.wait(), 4);
}

fn execs(docker: &Docker, worker: &str) {
    assert_eq!(docker.ok(&["exec", worker, "echo", "inside"]), "inside");
    assert_eq!(docker.run(&["exec", worker, "sh", "-c", "exit 5"]).code, 5);
    let half = docker.with_input(&["exec", "--interactive", worker, "sh", "-c", "cat; echo after"], b"abc\n");
    assert_eq!(half.stdout, "abc\nafter\n", "{}", half.stderr);
    let mut terminal = docker.spawn_on_pty(&["exec", "--interactive", "--tty", worker, "sh"]);
    terminal.wait_for("#");
    terminal.write("test -t 0 && echo tty $((40+2))\n");
    terminal.wait_for("tty 42");
    terminal.write("exit 3\n");
    assert_eq!(terminal.wait(), 3);
    docker.ok(&["exec", "--detach", worker, "touch", "/tmp/detached"]);
}

fn streams(docker: &Docker, worker: &str, mark: &str) {
    let mut logs = docker.spawn(&["logs", "--follow", worker]);
    logs.wait_for("tick\ntick\ntick\n");
    logs.interrupt();
    logs.wait();
    assert!(docker.ok(&["logs", "--tail", "1", worker]).contains("tick"));
    let mut attached = docker.spawn(&["attach", "--no-stdin", "--sig-proxy=false", worker]);
    attached.wait_for("tick\ntick\n");
    drop(attached);
    let cat = format!("{mark}-cat");
    docker.ok(&["create", "--interactive", "--name", &cat, IMAGE, "cat"]);
    let mut started = docker.spawn(&["start", "--attach", "--interactive", &cat]);
    started.write("through\n");
    started.wait_for("through\n");
    started.close_input();
    assert_eq!(started.wait(), 0, "the end of input ends `cat`");
    docker.ok(&["rm", &cat]);
}

fn copies(docker: &Docker, worker: &str) {
    let folder = Scratch::new("copies");
    let file = folder.write("data", "copied in");
    docker.ok(&["cp", file.to_str().unwrap(), &format!("{worker}:/tmp/data")]);
    assert_eq!(docker.ok(&["exec", worker, "cat", "/tmp/data"]), "copied in");
    let back = folder.join("back");
    docker.ok(&["cp", &format!("{worker}:/tmp/data"), back.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(back).unwrap(), "copied in");
    let tar = std::process::Command::new("tar").arg("-C").arg(folder.path()).args(["-c", "data"]).output().unwrap().stdout;
    assert_eq!(docker.with_input(&["cp", "-", &format!("{worker}:/var")], &tar).code, 0);
    assert_eq!(docker.ok(&["exec", worker, "cat", "/var/data"]), "copied in");
    assert!(docker.ok(&["diff", worker]).contains("/var/data"));
}

fn observes(docker: &Docker, worker: &str) {
    assert_eq!(docker.ok(&["stats", "--no-stream", "--format", "{{.Name}}", worker]), worker);
    assert!(docker.ok(&["top", worker]).contains("while"));
    assert_eq!(docker.ok(&["ps", "--filter", &format!("name={worker}"), "--format", "{{.Names}}"]), worker);
    assert_eq!(docker.ok(&["inspect", "--format", "{{.State.Status}}", worker]), "running");
    let mut events = docker.spawn(&["events", "--since", "1h", "--filter", &format!("container={worker}")]);
    docker.ok(&["pause", worker]);
    events.wait_for(" pause ");
    docker.ok(&["unpause", worker]);
    events.wait_for(" unpause ");
    events.interrupt();
    events.wait();
    assert!(docker.ok(&["version", "--format", "{{.Server.APIVersion}}"]).starts_with("1."));
    assert!(docker.ok(&["info", "--format", "{{.OSType}}"]).contains("linux"));
}

fn networks(docker: &Docker, worker: &str, mark: &str) {
    let net = format!("{mark}-net");
    docker.ok(&["network", "create", &net]);
    docker.ok(&["network", "connect", "--alias", "w", &net, worker]);
    assert!(docker.ok(&["network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{end}}", &net]).contains(worker));
    docker.ok(&["run", "--rm", "--network", &net, IMAGE, "ping", "-c", "1", "-w", "5", "w"]);
    docker.ok(&["network", "disconnect", &net, worker]);
    assert!(docker.ok(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == net));
    docker.ok(&["network", "rm", &net]);
}

fn volumes(docker: &Docker, mark: &str) {
    let volume = format!("{mark}-vol");
    docker.ok(&["volume", "create", &volume]);
    docker.ok(&["run", "--rm", "--volume", &format!("{volume}:/v"), IMAGE, "sh", "-c", "echo kept > /v/f"]);
    let mount = format!("type=volume,source={volume},target=/v,readonly");
    assert_eq!(docker.ok(&["run", "--rm", "--mount", &mount, IMAGE, "cat", "/v/f"]), "kept");
    assert!(docker.ok(&["volume", "ls", "--quiet"]).lines().any(|name| name == volume));
    assert_eq!(docker.ok(&["volume", "inspect", "--format", "{{.Driver}}", &volume]), "local");
    docker.ok(&["volume", "rm", &volume]);
}

fn ends(docker: &Docker, worker: &str) {
    let renamed = format!("{worker}-renamed");
    docker.ok(&["rename", worker, &renamed]);
    docker.ok(&["restart", "--time", "0", &renamed]);
    docker.ok(&["kill", &renamed]);
    assert_eq!(docker.ok(&["wait", &renamed]), "137");
    docker.ok(&["rm", &renamed]);
    assert_eq!(docker.ok(&["ps", "--all", "--quiet"]), "", "nothing is left");
}
