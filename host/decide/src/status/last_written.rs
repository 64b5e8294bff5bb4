//! The status of a database as this controller wrote it last, which the watch may bring later than it is needed. Knows no client.

use atomix_model::crd::{Database, DatabaseStatus};

/// A status that the API server took.
#[derive(Clone, Debug, PartialEq)]
pub struct LastWritten {
    /// The resourceVersion that the Database got by it.
    pub version: u64,
    /// The status.
    pub status: DatabaseStatus,
}

impl LastWritten {
    /// Shows the status, if the watch has not brought it yet. Returns whether that is so.
    pub fn refresh(&self, database: &mut Database) -> bool {
        let is_newer = self.version > version(database).unwrap_or(0);
        if is_newer {
            database.status = Some(self.status.clone());
        }
        is_newer
    }

    /// The newest resourceVersion that is known of the database: the next status may replace this one and no other.
    pub fn newest(&self, database: &Database) -> String {
        match version(database) {
            Some(seen) if seen < self.version => self.version.to_string(),
            _ => database.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

fn version(database: &Database) -> Option<u64> {
    database.metadata.resource_version.as_ref()?.parse().ok()
}
