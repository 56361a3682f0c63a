//! How filters of the Docker API are got past, and what closes each way here. No code: a page of the book.
//!
//! | class | what closes it | where it is tried |
//! |---|---|---|
//! | keys in another case, folded (U+017F, U+212A), given twice; a string or positions for a list or object | bodies are decoded strictly and written anew | `engine/tests/bodies.rs` |
//! | `%2F`, `/v1.041/`, `//`, absolute targets, methods in lower case | a path has one spelling | `engine::request::Route` |
//! | two framings, bare line feeds, chunk extensions, trailers, folded headers | a head has one form; the connection ends with anything else | `receive::tests` |
//! | form bodies that win over the query, a key given twice, `filters=` before ours | a query is read once, and each key is written once | `policies/tests/laws.rs` |
//! | host files by another name: mounts, `DriverConfig`, volume options, devices, links in a granted directory | each is a demand of its own | the attack corpus |
//! | the host's namespaces, another's network by `NetworkID`, `container:` of a name that comes later | names become ids; a start is judged again | `tests/tests/ownership.rs` |
//! | a privileged exec that was made before the policy changed | its start is judged by what the engine has of it | `tests/tests/starts.rs` |
//! | `MaskedPaths: []`, `systempaths`, `seccomp={}`, a capability twice | what is weakened is a demand | the attack corpus |
//! | somebody else's volume behind "201 Created", or made between look and use | volumes are made first, and looked at again after the create | `forward/made.rs` |
//! | a volume that is filled with an image's content, as root and by path, while a process leads it elsewhere | only one is filled that no process can have seen; creates of one volume take turns | `turns.rs`, `unseen.rs`, `tests/tests/ownership.rs` |
//! | a health check without a word to run, its own or its image's, which ends the engine | it is not understood | `engine/tests/engine_work.rs`, `images.rs` |
//! | a step of a build that hands an open directory to a container, which exchanges what is committed after it | a build that joins a container's network demands `racy-copy` | `engine/tests/engine_work.rs` |
//! | sizes of what is written, summed up by path while it is exchanged | `size` demands `container-sizes` | `engine/tests/engine_work.rs` |
//! | an owner label inherited from an image | the label counts beside the kind of object that it was set on | [`engine::KIND_LABEL`] |
//! | a Dockerfile that one reader reads otherwise: split words, quotes in flags, other blanks, escape directives, triggers | refused where engines differ | `engine::dockerfile` tests |
//! | a system path that an image's `VOLUME` or `WORKDIR` names, or a Dockerfile's | what an image brings is demanded where it is used | `engine/tests/images.rs` |
//! | an archive that one reader reads otherwise: sizes, prefixes, pax, links, compressed twins | the engine gets an archive that was written here | `engine::context` tests |
//! | another tenant's step out of the build cache | builds run without it unless `shared-build-cache` is allowed | `policies/src/fill.rs` |
//! | programs of a container run by the engine to unpack an upload (CVE-2026-41567) | what is sent is never compressed | `vet.rs` |
//! | a directory of a container exchanged for a link while the engine mounts, looks up or compares its files (GHSA-rg2x-37c3-w2rh, GHSA-vp62-88p7-qqf5) | it stands still meanwhile with what reaches it, also when the client has gone; what would move them waits; what reaches it from another tenant is refused | `tests/tests/copies.rs` |
//! | a container that ends as it is paused, which the engine calls paused, and starts again by its restart policy | its first process must be found in it, frozen | `tests/tests/copies.rs` |
//! | an export that is not read, which keeps a root mounted while a start makes its working directory by path | what has it open stands still, and starts wait | `tests/tests/copies.rs` |
//! | one container of a thousand mounts, named in fifty ways by a request | what is told of the objects that requests name is counted for their tenant | `tests/tests/engine_faults.rs` |
//! | a volume removed between its making and its mount, which the engine makes again as nobody's | its removal comes after the create | `tests/tests/copies.rs` |
//! | a client that takes nothing of an archive, or sends no more of one, while the engine keeps its container locked and others wait | it is cut off (`stall_timeout`) | `tests/tests/copies.rs` |
//! | execs with 4 MB of environment, never started, which the engine keeps | an exec is no longer than a kernel would run | `engine/tests/bodies.rs` |
//! | the host's cgroup namespace, which cgroup v1 gives unasked | `private` is filled in | `policies/tests/limits.rs` |
//! | a thousand bytes that unpack to a million, then silence; names of links without end | what is kept of an archive is counted for its tenant | `tests/tests/streams.rs` |
//! | every port of the host published, each a process of the engine | ports are counted, and limited for each container | `policies/tests/limits.rs` |
//! | a host path that never answers, which stops who looks at it | it is looked at on a thread of its own, for so long | `host::tests` |
//! | a tunnel before the engine's 101 | nothing of the client is sent before it | `tests/tests/streams.rs` |
//! | names and ids in error texts, lists, events, an image's other names | what is not yours does not exist; lists are narrowed; 409 is told in our words | `tests/tests/ownership.rs` |
//! | a resumed session around the revocation list | no sessions; trust is asked for at each request | `tls::tests` |
//! | a request without a record | it is opened first, and refused when it cannot be | `audit::tests` |
