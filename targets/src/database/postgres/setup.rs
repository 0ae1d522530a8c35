//! What a database is besides its content: its encoding, its owner, who may enter, and its settings.
//!
//! Invariant: a restored database is entered by whom the old one was, under the same limits; what this login may not
//! set is named, never lost in silence.

use tokio_postgres::Row;

use super::connect::{Link, Server, code, quote};
use crate::TargetError;

/// PostgreSQL writes the value of these as a list of names, and reads it as one.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The set-up of a database.
pub(super) struct Setup {
    /// What is fixed when a database is made, as options of `CREATE DATABASE`.
    options: String,
    /// The role that it belongs to.
    pub(super) owner: String,
    /// How many may be connected at once.
    pub(super) limit: i32,
    comment: Option<String>,
    /// `None` where nobody has changed who may enter.
    access: Option<Vec<Grant>>,
    settings: Vec<Setting>,
}

struct Grant {
    to: String,
    privilege: String,
    may_grant: bool,
}

struct Setting {
    role: Option<String>,
    name: String,
    value: String,
}

/// Newer servers have more columns: as a document, those that are not there read as null.
const FACTS: &str = "SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text, \
    j ->> 'datlocprovider', coalesce(j ->> 'datlocale', j ->> 'daticulocale'), j ->> 'daticurules', \
    pg_catalog.pg_get_userbyid(d.datdba)::text, d.datconnlimit, t.spcname::text, \
    pg_catalog.shobj_description(d.oid, 'pg_database'), d.datacl IS NOT NULL \
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace, \
    pg_catalog.to_jsonb(d) AS j WHERE d.datname = $1";

const ACCESS: &str = "SELECT CASE a.grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END, \
    a.privilege_type, a.is_grantable FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) AS a \
    WHERE d.datname = $1";

/// The fence is ours: the swap sets it.
const SETTINGS: &str = "SELECT CASE s.setrole WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(s.setrole)::text END, \
    setting FROM pg_catalog.pg_database d JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid, \
    pg_catalog.unnest(s.setconfig) AS setting WHERE d.datname = $1 AND setting NOT LIKE 'leasehold.fence=%'";

impl Setup {
    /// Reads the set-up of a database of the server.
    pub(super) async fn of(server: &Server, maintenance: &Link, database: &str) -> Result<Self, TargetError> {
        let read = async {
            let facts = maintenance.query_one(FACTS, &[&database]).await?;
            let changed: bool = facts.try_get(10)?;
            let access = match changed {
                true => Some(maintenance.query(ACCESS, &[&database]).await?),
                false => None,
            };
            let settings = maintenance.query(SETTINGS, &[&database]).await?;
            let access = access.map(|rows| rows.iter().map(Grant::read).collect::<Result<_, _>>()).transpose()?;
            Ok(Self {
                options: options(&facts)?,
                owner: facts.try_get(6)?,
                limit: facts.try_get(7)?,
                comment: facts.try_get(9)?,
                access,
                settings: settings.iter().map(Setting::read).collect::<Result<_, _>>()?,
            })
        };
        read.await.map_err(|e| server.ours("read how it is set up", e))
    }

    /// The options of `CREATE DATABASE` for another like it.
    pub(super) fn options(&self) -> String {
        format!("OWNER {} {}", quote(&self.owner), self.options)
    }

    /// Gives another database the comment, the access and the settings of this one; says what it may not give.
    pub(super) async fn put_on(
        &self,
        server: &Server,
        maintenance: &Link,
        database: &str,
    ) -> Result<Vec<String>, TargetError> {
        let mut missing = Vec::new();
        for (what, sql) in self.statements(database) {
            match maintenance.batch_execute(&sql).await {
                Ok(()) => {}
                // Only a superuser may set some of them, and this login is none.
                Err(error) if code(&error) == Some("42501") => missing.push(what),
                Err(error) => return Err(server.ours(&format!("carry over {what}"), error)),
            }
        }
        Ok(missing)
    }

    fn statements(&self, database: &str) -> Vec<(String, String)> {
        let quoted = quote(database);
        let mut all = Vec::new();
        if let Some(comment) = &self.comment {
            all.push(("its comment".to_owned(), format!("COMMENT ON DATABASE {quoted} IS {}", text(comment))));
        }
        if let Some(grants) = &self.access {
            let owner = quote(&self.owner);
            let mut sql = format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC, {owner};");
            for Grant { to, privilege, may_grant } in grants {
                let more = if *may_grant { " WITH GRANT OPTION" } else { "" };
                sql.push_str(&format!("GRANT {privilege} ON DATABASE {quoted} TO {to}{more};"));
            }
            all.push(("who may enter it".to_owned(), sql));
        }
        for Setting { role, name, value } in &self.settings {
            let of = match role {
                None => format!("ALTER DATABASE {quoted}"),
                Some(role) => format!("ALTER ROLE {} IN DATABASE {quoted}", quote(role)),
            };
            // A setting of an extension has a dot in its name.
            let name_quoted = name.split('.').map(quote).collect::<Vec<_>>().join(".");
            all.push((format!("the setting {name}"), format!("{of} SET {name_quoted} TO {}", as_sql(name, value))));
        }
        all
    }
}

impl Grant {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let to: Option<String> = row.try_get(0)?;
        let to = to.map_or_else(|| "PUBLIC".to_owned(), |role| quote(&role));
        Ok(Self { to, privilege: row.try_get(1)?, may_grant: row.try_get(2)? })
    }
}

impl Setting {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let setting: String = row.try_get(1)?;
        let (name, value) = setting.split_once('=').unwrap_or((&setting, ""));
        Ok(Self { role: row.try_get(0)?, name: name.to_owned(), value: value.to_owned() })
    }
}

fn options(facts: &Row) -> Result<String, tokio_postgres::Error> {
    let (encoding, collate, ctype): (String, String, String) =
        (facts.try_get(0)?, facts.try_get(1)?, facts.try_get(2)?);
    let mut sql = format!("ENCODING {} LC_COLLATE {} LC_CTYPE {}", text(&encoding), text(&collate), text(&ctype));
    let locale: Option<String> = facts.try_get(4)?;
    let locale = text(locale.as_deref().unwrap_or_default());
    match facts.try_get::<_, Option<String>>(3)?.as_deref() {
        Some("i") => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}")),
        Some("b") => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}")),
        Some(_) => sql.push_str(" LOCALE_PROVIDER libc"),
        None => {}
    }
    if let Some(rules) = facts.try_get::<_, Option<String>>(5)? {
        sql.push_str(&format!(" ICU_RULES {}", text(&rules)));
    }
    let tablespace: String = facts.try_get(8)?;
    // A plain login may use the default one only without naming it.
    if tablespace != "pg_default" {
        sql.push_str(&format!(" TABLESPACE {}", quote(&tablespace)));
    }
    Ok(sql)
}

/// A text where SQL takes a constant and no expression.
fn text(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The value of a setting: a list stays a list, or it would come back as one name with commas in it.
fn as_sql(name: &str, value: &str) -> String {
    if !LISTS.iter().any(|list| list.eq_ignore_ascii_case(name)) {
        return text(value);
    }
    let names = names(value);
    if names.is_empty() { "''".to_owned() } else { names.iter().map(|name| text(name)).collect::<Vec<_>>().join(", ") }
}

/// The names of a list such as `"$user", public`.
fn names(list: &str) -> Vec<String> {
    let (mut names, mut name, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => name.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            space if !quoted && space.is_whitespace() => {}
            other => name.push(other),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_stays_a_list() {
        assert_eq!(
            as_sql("search_path", r#""$user", public, "odd ""name, x""#),
            r#"E'$user', E'public', E'odd "name, x'"#
        );
        assert_eq!(as_sql("search_path", r#""""#), "''");
        assert_eq!(as_sql("work_mem", "4MB"), "E'4MB'");
        assert_eq!(as_sql("app.note", r"it's a \, b"), r"E'it''s a \\, b'");
    }
}
