//! How far rollouts of changed rules have come, as a file in the data directory: a restart must not begin them anew.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;

use crate::controller::RolloutRecord;

/// The file.
const FILE: &str = "rollouts.json";
/// Where a file goes that cannot be read.
const DAMAGED: &str = "rollouts.damaged.json";

/// Reads what was written down; nothing when there is no file. A file that is damaged is set aside, and people are told:
/// without it every rule applies as the documents have it.
///
/// # Errors
/// When the file is there and the disk does not give it, or it cannot be set aside.
pub fn read(data_dir: &Path) -> anyhow::Result<RolloutRecord> {
    let path = data_dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RolloutRecord::default()),
        Err(error) => return Err(error).with_context(|| format!("file {}", path.display())),
    };
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(record),
        Err(error) => {
            let aside = data_dir.join(DAMAGED);
            fs::rename(&path, &aside).with_context(|| format!("file {}", path.display()))?;
            tracing::error!(file = %path.display(), aside = %aside.display(), %error, "cannot be read; rules apply as documents have them");
            Ok(RolloutRecord::default())
        }
    }
}

/// Writes the record down: after a crash the file is the old one or the new one.
///
/// # Errors
/// When the file cannot be written; the one before stays.
pub fn write(data_dir: &Path, record: &RolloutRecord) -> io::Result<()> {
    let temporary = data_dir.join("rollouts.new");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, data_dir.join(FILE))?;
    fs::File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: no file is no rollouts, what was written is read, and a damaged file is set aside and kept.
    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), RolloutRecord::default());
        let text = r#"{"rollouts":{"load":{"version":7,"previous":3,"stage":{"shadow":{"since":1}}}},
            "inForce":{"load":{"sql":"SELECT 1","every":"5s","policy":{"min":2}}}}"#;
        let record: RolloutRecord = serde_json::from_str(text).unwrap();
        write(dir.path(), &record).unwrap();
        assert_eq!(read(dir.path()).unwrap(), record);
        for damaged in ["{\"rollouts\":", "{\"rollouts\":{},\"inForce\":{\"load\":{\"sql\":1}}}"] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(read(dir.path()).unwrap(), RolloutRecord::default());
            assert_eq!(fs::read_to_string(dir.path().join(DAMAGED)).unwrap(), damaged);
            assert!(!dir.path().join(FILE).exists());
        }
    }
}
