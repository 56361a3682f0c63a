//! Certificates: `seawall cert` as a user types it, certificates that no honest CA would issue, and a TLS client that shows them.

use std::fmt;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{Response, over, request};
use crate::proxy::binary;
use crate::scratch::{Scratch, must};

/// A folder that `seawall cert init` made, with a server certificate for `localhost` and `127.0.0.1`.
#[derive(Debug)]
pub struct Pki {
    home: Scratch,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// `seawall cert init` and `seawall cert server`.
    #[must_use]
    pub fn new() -> Self {
        let pki = Self { home: Scratch::new("pki") };
        pki.cert("init", &[]);
        pki.cert("server", &["--host", "localhost", "--host", "127.0.0.1"]);
        pki
    }

    /// `seawall cert COMMAND DIR …`; gives what it printed.
    pub fn cert(&self, command: &str, rest: &[&str]) -> String {
        must(Command::new(binary()).args(["cert", command]).arg(self.home.path()).args(rest))
    }

    /// `seawall cert issue`; gives the folder for `DOCKER_CERT_PATH`.
    pub fn issue(&self, name: &str, rest: &[&str]) -> PathBuf {
        self.cert("issue", &[&["--client", name], rest].concat());
        self.home.join("clients").join(name)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// The lines of a TLS listener in `seawall.yaml`.
    #[must_use]
    pub fn listener(&self, port: u16) -> String {
        let home = self.path().display();
        format!(
            "  - address: tls://127.0.0.1:{port}\n    certificate: {home}/server/cert.pem\n    key: {home}/server/key.pem\n    \
             client_ca: {home}/ca.pem\n    client_crl: {home}/crl.pem\n"
        )
    }

    /// A client certificate signed by this CA's own key, as `odd` says; gives a folder like those of [`Pki::issue`].
    pub fn forge(&self, name: &str, odd: Odd) -> PathBuf {
        let pem = |file: &str| fs::read_to_string(self.home.join(file)).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&pem("ca.pem"), KeyPair::from_pem(&pem("ca-key.pem")).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(format!("seawall:client/{name}").try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        match odd {
            Odd::Expired => params.not_after = date_time_ymd(2021, 1, 1),
            Odd::NotYetValid => params.not_before = date_time_ymd(2039, 1, 1),
            Odd::OnlyCommonName => {
                params.subject_alt_names.clear();
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
            }
            Odd::ServerUse => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            Odd::WithoutUse => params.extended_key_usages.clear(),
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        self.home.write(&format!("clients/{name}/cert.pem"), certificate.pem());
        self.home.write(&format!("clients/{name}/key.pem"), key.serialize_pem());
        self.home.write(&format!("clients/{name}/ca.pem"), pem("ca.pem"));
        self.home.join("clients").join(name)
    }

    /// The serial number of the certificate in a client's folder, in hexadecimal.
    #[must_use]
    pub fn serial(folder: &Path) -> String {
        let mut openssl = Command::new("openssl");
        let text = must(openssl.args(["x509", "-noout", "-serial", "-in"]).arg(folder.join("cert.pem")));
        text.trim().trim_start_matches("serial=").to_owned()
    }
}

/// What is wrong with a forged certificate.
#[derive(Clone, Copy, Debug)]
pub enum Odd {
    /// It ended in 2021.
    Expired,
    /// It begins in 2039.
    NotYetValid,
    /// The name is only where nobody shall look for it.
    OnlyCommonName,
    /// Its extended key usage is a server's.
    ServerUse,
    /// It has no extended key usage.
    WithoutUse,
}

/// A TLS 1.3 client that trusts one CA and may show a certificate.
pub struct Tls {
    config: Arc<ClientConfig>,
    port: u16,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Tls {
    /// A client that trusts the CA in `pki` and shows the certificate in `folder`, if any.
    #[must_use]
    pub fn new(port: u16, pki: &Pki, folder: Option<&Path>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.path().join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match folder {
            None => builder.with_no_client_auth(),
            Some(folder) => {
                let chain = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap().map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap()).unwrap()
            }
        };
        Self { config: Arc::new(config), port }
    }

    /// Connects. The handshake, and the server's refusal of a certificate, come with the first bytes.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port))?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.config), name).unwrap(), tcp))
    }

    /// A plain request on a connection of its own.
    ///
    /// # Errors
    /// The handshake's and the connection's.
    pub fn call(&self, method: &str, target: &str, body: Option<&serde_json::Value>) -> io::Result<Response> {
        over(self.connect()?, &request(method, target, body))
    }
}

/// A TCP port on which nobody listened a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
