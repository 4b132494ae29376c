//! Passwords and TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use maqet_adapters_postgres::{Identity, PostgresStore, PostgresUrl, Variables};
use maqet_domain::port::{StoreError, VmRepository};
use maqet_testkit::postgres::{PASSWORD, PASSWORD_ROLE, PostgresServer};

use crate::support::Database;

/// Lists the VMs through a URL without scheme.
async fn list(address: &str, variables: &[(&str, &str)]) -> Result<(), StoreError> {
    let variables: Variables = variables.iter().copied().collect();
    let url = PostgresUrl::parse(address, &variables, "me")?;
    let identity = Identity { host: "here".to_owned(), owner: "me".to_owned() };
    PostgresStore::new(url, identity, None).list().await.map(drop)
}

#[tokio::test]
async fn test_password_comes_from_url_variable_and_file() {
    let database = Database::new();
    let url = database.schema.url.replace("user=maqet", &format!("user={PASSWORD_ROLE}"));
    let address = url.strip_prefix("postgres://").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".pgpass");
    let socket = database.server.folder().display();
    let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    fs::write(&file, format!("{socket}:5432:maqet:{PASSWORD_ROLE}:{escaped}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (home, file) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let encoded = PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();

    list(&format!("{address}&password={encoded}"), &[]).await.unwrap();
    list(address, &[("PGPASSWORD", PASSWORD)]).await.unwrap();
    list(address, &[("HOME", home)]).await.unwrap();
    list(address, &[("PGPASSFILE", file)]).await.unwrap();
    list(&format!("{address}&passfile={file}"), &[]).await.unwrap();
}

/// The keys of an authority, of the server, and of a user; the server is `localhost`.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keys.make("ca", &["-x509", "-subj", "/CN=test authority", "-days", "2"]);
        keys.make("other", &["-x509", "-subj", "/CN=another authority", "-days", "2"]);
        keys.signed("server", "/CN=localhost", "subjectAltName=DNS:localhost");
        keys.signed("user", "/CN=maqet", "extendedKeyUsage=clientAuth");
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn make(&self, name: &str, more: &[&str]) {
        let (key, out) = (format!("{name}.key"), format!("{name}.crt"));
        let new = ["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        self.openssl(&[&new[..], &["-keyout", &key, "-out", &out], more].concat());
        fs::set_permissions(self.path(&key), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn signed(&self, name: &str, subject: &str, extension: &str) {
        self.make(name, &["-subj", subject]);
        let certificate = format!("{name}.crt");
        fs::write(self.path("extension"), extension).unwrap();
        let sign = ["x509", "-req", "-in", &certificate, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
        self.openssl(&[&sign[..], &["-days", "2", "-extfile", "extension", "-out", &certificate]].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Starts a server with TLS whose rules of access for TCP are `access`.
fn tls_server(keys: &Keys, access: &str) -> PostgresServer {
    let server = PostgresServer::start_on_tcp("");
    let file = |name: &str| server.write(name, &keys.text(name)).display().to_string();
    let [certificate, key, ca] = ["server.crt", "server.key", "ca.crt"].map(file);
    server.configure(&format!(
        "ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\nssl_ca_file = '{ca}'\n"
    ));
    server.write("data/pg_hba.conf", &format!("local all all trust\n{access}\n"));
    server.stop();
    server.resume();
    server
}

fn is_encrypted(server: &PostgresServer) -> bool {
    server.query(
        "SELECT bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'maqet'",
    ) == "t"
}

async fn check_mode(server: &PostgresServer, host: &str, parameters: &str) -> Result<bool, StoreError> {
    let port = server.tcp().rsplit_once(':').unwrap().1.to_owned();
    let address = format!("maqet@{host}:{port}/maqet?{parameters}");
    let url = PostgresUrl::parse(&address, &Variables::default(), "me")?;
    let store = PostgresStore::new(url, Identity { host: "here".to_owned(), owner: "me".to_owned() }, None);
    store.list().await?;
    let encrypted = is_encrypted(server);
    drop(store);
    // The server ends the session a moment after the store.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'maqet'";
    while server.query(sessions) != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(encrypted)
}

fn root(keys: &Keys, name: &str) -> String {
    format!("sslrootcert={}", keys.path(name).display())
}

#[tokio::test]
async fn test_tls_modes_encrypt_and_verify_as_libpq_does() {
    let keys = Keys::new();
    let server = tls_server(&keys, "host all all all trust");
    let (ours, other) = (root(&keys, "ca.crt"), root(&keys, "other.crt"));
    let mode = async |host: &str, parameters: &str| check_mode(&server, host, parameters).await;

    assert!(!mode("localhost", "sslmode=disable").await.unwrap());
    assert!(!mode("localhost", "sslmode=allow").await.unwrap());
    assert!(mode("localhost", "sslmode=prefer").await.unwrap());
    assert!(mode("localhost", "").await.unwrap());
    assert!(mode("127.0.0.1", "sslmode=require").await.unwrap());
    assert!(mode("127.0.0.1", &format!("sslmode=verify-ca&{ours}")).await.unwrap());
    assert!(mode("localhost", &format!("sslmode=verify-full&{ours}")).await.unwrap());
    // The certificate is not for the address.
    assert!(mode("127.0.0.1", &format!("sslmode=verify-full&{ours}")).await.is_err());
    assert!(mode("localhost", &format!("sslmode=verify-ca&{other}")).await.is_err());
    assert!(mode("localhost", &format!("sslmode=require&{other}")).await.is_err());
    // The authority is not one of the host's.
    let unknown = mode("localhost", "sslmode=verify-full&sslrootcert=system").await.unwrap_err();
    assert!(matches!(unknown, StoreError::Unreachable { .. }), "{unknown:?}");
    assert!(mode("localhost", "sslmode=verify-full&sslrootcert=/no/such/file").await.is_err());
}

#[tokio::test]
async fn test_tls_required_by_the_server_is_used_by_allow() {
    let keys = Keys::new();
    let server = tls_server(&keys, "hostssl all all all trust");

    assert!(check_mode(&server, "localhost", "sslmode=allow").await.unwrap());
    assert!(matches!(check_mode(&server, "localhost", "sslmode=disable").await, Err(StoreError::AccessRefused { .. })));
}

#[tokio::test]
async fn test_tls_certificate_of_the_user_is_accepted() {
    let keys = Keys::new();
    let server = tls_server(&keys, "hostssl all all all cert");
    let files = |certificate: &Path, key: &Path| {
        format!("sslmode=require&sslcert={}&sslkey={}", certificate.display(), key.display())
    };

    let accepted = check_mode(&server, "localhost", &files(&keys.path("user.crt"), &keys.path("user.key"))).await;
    let without = check_mode(&server, "localhost", "sslmode=require").await;
    fs::set_permissions(keys.path("user.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let insecure = check_mode(&server, "localhost", &files(&keys.path("user.crt"), &keys.path("user.key"))).await;

    assert!(accepted.unwrap());
    assert!(matches!(without, Err(StoreError::AccessRefused { .. })), "{without:?}");
    assert!(matches!(insecure, Err(StoreError::InsecureSecret { .. })), "{insecure:?}");
}
