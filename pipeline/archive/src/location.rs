//! Where an archive is: a folder, or a bucket and a prefix.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::error::ArchiveError;

/// Attempts after the first one. With the pauses below they end within the time below.
const RETRIES: usize = 6;
const RETRY_TIME: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// A compacted file on a slow line.
const REQUEST_TIME: Duration = Duration::from_secs(60);
const EXPECTED: &str = "expected a path, file:///PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or \
                        abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX";

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A folder; it need not exist.
    Local(PathBuf),
    /// A prefix in a bucket. Credentials and endpoint come from the environment variables of its provider: `AWS_*`,
    /// `GOOGLE_*`, `AZURE_*`.
    Remote {
        /// Whose bucket.
        provider: Provider,
        /// The URL as written.
        url: String,
        /// The part after the bucket.
        prefix: Path,
    },
}

/// Who stores the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// S3 or what speaks like it.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

// === impl Location ===

impl Location {
    /// Reads a path or a URL.
    ///
    /// # Errors
    /// When the scheme is unknown, or there is no bucket.
    pub fn parse(text: &str) -> Result<Self, ArchiveError> {
        let wrong = |reason: String| ArchiveError::Location { location: text.to_owned(), reason };
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(wrong(EXPECTED.to_owned())) } else { Ok(Self::Local(PathBuf::from(text))) };
        };
        let provider = match scheme {
            "file" if rest.starts_with('/') => return Ok(Self::Local(PathBuf::from(rest))),
            "file" => return Err(wrong("a file URL has three slashes, as in file:///var/lib/tracescale".to_owned())),
            "s3" | "s3a" => Provider::S3,
            "gs" => Provider::Google,
            "az" | "azure" | "adl" | "abfs" | "abfss" => Provider::Azure,
            other => return Err(wrong(format!("the scheme {other} is unknown; {EXPECTED}"))),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong(format!("it names no bucket; {EXPECTED}")));
        }
        if prefix.contains(['?', '#', '%']) {
            return Err(wrong("a prefix has none of ?, # and %".to_owned()));
        }
        let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::Remote { provider, url: text.trim_end_matches('/').to_owned(), prefix })
    }

    /// A client of a bucket. Nothing is asked of it yet.
    pub(crate) fn connect(provider: Provider, url: &str) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 },
            max_retries: RETRIES,
            retry_timeout: RETRY_TIME,
        };
        // An endpoint without TLS is a choice that the environment states by its scheme.
        let plain = ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"];
        let plain = plain.iter().any(|name| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://")));
        let options = ClientOptions::new().with_timeout(REQUEST_TIME).with_connect_timeout(CONNECT_TIME).with_allow_http(plain);
        let store: Result<Arc<dyn ObjectStore>, _> = match provider {
            Provider::S3 => {
                let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry).with_client_options(options);
                builder.build().map(|store| Arc::new(store) as _)
            }
            Provider::Google => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry).with_client_options(options);
                builder.build().map(|store| Arc::new(store) as _)
            }
            Provider::Azure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry);
                // The emulator has no TLS, and says so itself; options would take that back.
                let emulated = std::env::var("AZURE_STORAGE_USE_EMULATOR").is_ok_and(|value| value == "true" || value == "1");
                let builder = builder.with_client_options(options.with_allow_http(plain || emulated));
                builder.build().map(|store| Arc::new(store) as _)
            }
        };
        store.map_err(|error| ArchiveError::Location { location: url.to_owned(), reason: error.to_string() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote { url, .. } => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: every documented form is read, and what is none is refused with the forms that are.
    #[test]
    fn locations_are_read() {
        assert_eq!(Location::parse("data/archive").unwrap(), Location::Local("data/archive".into()));
        assert_eq!(Location::parse("file:///var/lib/x").unwrap(), Location::Local("/var/lib/x".into()));
        for (text, expected, prefix) in [
            ("s3://bucket/a/b/", Provider::S3, "a/b"),
            ("s3://bucket", Provider::S3, ""),
            ("gs://bucket/a", Provider::Google, "a"),
            ("az://container/a", Provider::Azure, "a"),
            ("abfss://container@account.dfs.core.windows.net/a", Provider::Azure, "a"),
        ] {
            let Location::Remote { provider, prefix: found, .. } = Location::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!((provider, found.as_ref()), (expected, prefix), "{text}");
        }
        for bad in ["", "ftp://x/y", "s3://", "s3:///x", "file://x", "s3://b/a?versionId=1", "s3://b/../x"] {
            assert!(Location::parse(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
