//! To whom the objects of a restored database belong.
//!
//! Invariant: the application that could work with the old database can work with the restored one.

use std::collections::BTreeSet;
use std::path::Path;

use super::connect::{Link, Server};
use super::tools;
use crate::TargetError;

/// The owners that a backup names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owners {
    of_objects: BTreeSet<String>,
    of_database: Option<String>,
}

/// How `pg_restore` is to set owners, and what is to be said about it.
pub(super) struct Ownership {
    pub(super) arguments: Vec<String>,
    pub(super) note: Option<String>,
}

impl Ownership {
    /// Each object keeps its owner, if this login may give it to that one; and if the backup is of a database of the
    /// same owner. Else all of it goes to the owner of the database that is replaced (`to`).
    pub(super) async fn choose(
        server: &Server,
        maintenance: &Link,
        backup: &Path,
        to: Option<&str>,
    ) -> Result<Self, TargetError> {
        let owners = Owners::read(backup).await?;
        let foreign = owners.of_database.as_deref().zip(to).filter(|(from, to)| from != to);
        let why = match foreign {
            Some((from, _)) => Some(format!("the backup is of a database of {from}")),
            None => unreachable_owner(server, maintenance, &owners.of_objects)
                .await?
                .map(|owner| format!("this login may not give objects to {owner}, or there is no such role")),
        };
        let Some(why) = why else { return Ok(Self { arguments: Vec::new(), note: None }) };
        let mut arguments = vec!["--no-owner".to_owned()];
        arguments.extend(to.map(|to| format!("--role={to}")));
        let whose = to.map_or_else(|| "the login".to_owned(), |to| format!("its owner {to}"));
        Ok(Self { arguments, note: Some(format!("every restored object belongs to {whose}: {why}")) })
    }
}

impl Owners {
    /// Reads them from the comments that `pg_restore` writes above each object.
    async fn read(backup: &Path) -> Result<Self, TargetError> {
        let mut command = tools::command("pg_restore")?;
        command.args(["--create", "--schema-only", "--file", "-"]).arg(backup);
        let said = command.output().await.map_err(|error| TargetError::io("run pg_restore for", backup, error))?;
        if !said.status.success() {
            return Err(tools::failed("pg_restore", said.status, &String::from_utf8_lossy(&said.stderr), backup));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&said.stdout)))
    }

    fn parse(sql: &str) -> Self {
        let mut owners = Self::default();
        for line in sql.lines().filter(|line| line.starts_with("-- Name: ")) {
            let Some((head, owner)) = line.rsplit_once("; Owner: ") else { continue };
            let owner = owner.split_once("; Tablespace: ").map_or(owner, |(owner, _)| owner);
            // What belongs to nobody, such as an extension, is shown with a dash or nothing.
            if owner.is_empty() || owner == "-" {
                continue;
            }
            match head.contains("; Type: DATABASE; ") {
                true => owners.of_database = Some(owner.to_owned()),
                false => {
                    owners.of_objects.insert(owner.to_owned());
                }
            }
        }
        owners
    }
}

/// The first owner to whom this login may give nothing.
async fn unreachable_owner(
    server: &Server,
    maintenance: &Link,
    owners: &BTreeSet<String>,
) -> Result<Option<String>, TargetError> {
    // Since version 16 a member of a role may be one that cannot act as it.
    let sql = "SELECT o FROM pg_catalog.unnest($1::text[]) AS o \
         LEFT JOIN pg_catalog.pg_roles r ON r.rolname = o WHERE r.oid IS NULL OR NOT pg_catalog.pg_has_role(r.oid, \
         CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) \
         ORDER BY 1 LIMIT 1";
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    let row = maintenance.query_opt(sql, &[&owners]).await;
    row.and_then(|row| row.map(|row| row.try_get(0)).transpose()).map_err(|e| server.ours("ask for its owners", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_the_heads_of_objects() {
        let sql = "-- Name: shop; Type: DATABASE; Schema: -; Owner: the boss\n\
            -- Name: t; Type: TABLE; Schema: public; Owner: app; Tablespace: fast\n\
            -- Name: EXTENSION x; Type: COMMENT; Schema: -; Owner: \n\
            -- Name: a; Owner: b; Type: VIEW; Schema: public; Owner: other\nSELECT 1; Owner: nobody";
        let owners = Owners::parse(sql);
        assert_eq!(owners.of_database.as_deref(), Some("the boss"));
        assert_eq!(owners.of_objects.into_iter().collect::<Vec<_>>(), ["app", "other"]);
    }
}
